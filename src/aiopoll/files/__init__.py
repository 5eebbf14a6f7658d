"""Async files: aiopoll.open and what belongs to it."""

import asyncio

from aiopoll._core.file_queue import queue_of
from aiopoll._core.file_statistics import FileStatistics as FileStatistics
from aiopoll.files.binary import BinaryFile as BinaryFile
from aiopoll.files.opening import open as open
from aiopoll.files.text import TextFile as TextFile


def file_statistics() -> FileStatistics:
    """The counters of all files of the running event loop."""
    return queue_of(asyncio.get_running_loop()).statistics()
