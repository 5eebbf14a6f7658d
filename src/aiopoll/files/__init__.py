"""Async files: aiopoll.open, and the classes and functions around it.

Lives here: binary and text files (binary, text), paths, temporary files, whole-file calls, files
that are open already (standard, wrapped), aiofiles' modules (os, ospath, tempfile).  Below
them lies the compiled part, each module over those after it: positional I/O (file), the queue and
threads (scheduler), a ring for other loops (own_ring), the choice of a route (routes), the request
and its states (request), descriptor and accesses (open_file).

May import: aio, reactor, loop, support.

Data comes from read() and write() as requests.  They go to the kernel on the loop's ring, on an
own ring, or in a thread; each result comes back to the future of its request.
"""

import asyncio

from aiopoll.files import os as os
from aiopoll.files import tempfile as tempfile
from aiopoll.files.binary import BinaryFile as BinaryFile
from aiopoll.files.calls import copyfile as copyfile
from aiopoll.files.calls import read_bytes as read_bytes
from aiopoll.files.calls import scandir as scandir
from aiopoll.files.calls import write_atomic as write_atomic
from aiopoll.files.calls import write_bytes as write_bytes
from aiopoll.files.opening import open as open
from aiopoll.files.path import Path as Path
from aiopoll.files.scheduler import queue_of
from aiopoll.files.standard import stderr as stderr
from aiopoll.files.standard import stderr_bytes as stderr_bytes
from aiopoll.files.standard import stdin as stdin
from aiopoll.files.standard import stdin_bytes as stdin_bytes
from aiopoll.files.standard import stdout as stdout
from aiopoll.files.standard import stdout_bytes as stdout_bytes
from aiopoll.files.standard import wrap as wrap
from aiopoll.files.statistics import FileStatistics as FileStatistics
from aiopoll.files.temporary import NamedTemporaryFile as NamedTemporaryFile
from aiopoll.files.temporary import TemporaryDirectory as TemporaryDirectory
from aiopoll.files.temporary import TemporaryFile as TemporaryFile
from aiopoll.files.text import TextFile as TextFile
from aiopoll.files.wrapped_binary import WrappedBinaryFile as WrappedBinaryFile
from aiopoll.files.wrapped_text import WrappedTextFile as WrappedTextFile


def file_statistics() -> FileStatistics:
    """Returns the counters of all files of the running event loop."""
    return queue_of(asyncio.get_running_loop()).statistics()
