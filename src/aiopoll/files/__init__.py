"""Async files: aiopoll.open and what belongs to it."""

import asyncio

from aiopoll._core.file_queue import queue_of
from aiopoll._core.file_statistics import FileStatistics as FileStatistics
from aiopoll.files.binary import BinaryFile as BinaryFile
from aiopoll.files.calls import copyfile as copyfile
from aiopoll.files.calls import read_bytes as read_bytes
from aiopoll.files.calls import scandir as scandir
from aiopoll.files.calls import write_atomic as write_atomic
from aiopoll.files.calls import write_bytes as write_bytes
from aiopoll.files.opening import open as open
from aiopoll.files.path import Path as Path
from aiopoll.files.temporary import NamedTemporaryFile as NamedTemporaryFile
from aiopoll.files.temporary import TemporaryDirectory as TemporaryDirectory
from aiopoll.files.temporary import TemporaryFile as TemporaryFile
from aiopoll.files.text import TextFile as TextFile


def file_statistics() -> FileStatistics:
    """The counters of all files of the running event loop."""
    return queue_of(asyncio.get_running_loop()).statistics()
