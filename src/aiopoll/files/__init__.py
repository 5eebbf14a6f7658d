"""Async files: aiopoll.open and what belongs to it.

Lives here: binary and text files (binary, text), paths, temporary files, whole-file calls.  Below
them the compiled part, each over those after it: positional I/O (file), the queue and threads
(scheduler), a ring for other loops (own_ring), which way a request goes (routes), the request and
its states (request), descriptor and accesses (open_file).

May import: aio, reactor, loop, support.

Data comes from read() and write() as requests.  It goes to the kernel on the loop's ring, on a
ring of its own, or in a thread; the result comes back to the request's future.
"""

import asyncio

from aiopoll.files.binary import BinaryFile as BinaryFile
from aiopoll.files.calls import copyfile as copyfile
from aiopoll.files.calls import read_bytes as read_bytes
from aiopoll.files.calls import scandir as scandir
from aiopoll.files.calls import write_atomic as write_atomic
from aiopoll.files.calls import write_bytes as write_bytes
from aiopoll.files.opening import open as open
from aiopoll.files.path import Path as Path
from aiopoll.files.scheduler import queue_of
from aiopoll.files.statistics import FileStatistics as FileStatistics
from aiopoll.files.temporary import NamedTemporaryFile as NamedTemporaryFile
from aiopoll.files.temporary import TemporaryDirectory as TemporaryDirectory
from aiopoll.files.temporary import TemporaryFile as TemporaryFile
from aiopoll.files.text import TextFile as TextFile


def file_statistics() -> FileStatistics:
    """The counters of all files of the running event loop."""
    return queue_of(asyncio.get_running_loop()).statistics()
