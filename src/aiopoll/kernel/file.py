"""include/linux/fs.h, fs/file.c and fs/file_table.c: files, their operations, descriptors.

Facts: a descriptor is a reference to a file; a request in flight is another. `close` drops the
first only, so `release` runs when the last reference goes: a parked poll pins its file. A
descriptor number is the lowest free one and is reused at once.

The poll methods, as the series has them:

- `poll(file, pt)` registers on any number of queues and returns the mask.
- `get_poll_head(file, events)` returns the one queue to wait on, which lives as long as the file.
  None: this file cannot be polled. A number: no need to wait, these events are there.
  An OSError: a fatal error, and `poll_mask` must not be called.
- `poll_mask(file, events)` checks without blocking. It may run under the queue's lock, from a
  wake-up, so it takes no sleeping lock. It may return bits that the caller did not ask for.

Rule: a method that a file lacks is None, as NULL in Linux; callers test for it.
Left out: O_CLOEXEC and exec, RLIMIT_NOFILE.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .sched import Scheduler
from .uapi import O_ACCMODE, error
from .wait import WaitQueueHead

if TYPE_CHECKING:
    from .select import PollTable

PollHead = WaitQueueHead | int | OSError | None
Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, eq=False)
class FileOperations:
    """struct file_operations.

    `read(file, count, pos, nowait)` returns bytes; `write(file, data, pos, nowait)` a count. `pos`
    is None where neither the call nor the file has one. `nowait` is O_NONBLOCK or RWF_NOWAIT:
    raise EAGAIN rather than sleep. `fsync(file, datasync)` may sleep. `flush(file)` is called when
    a descriptor is closed, `release(file)` when the last reference goes.
    """

    read: Callable[[File, int, int | None, bool], bytes] | None = None
    write: Callable[[File, bytes, int | None, bool], int] | None = None
    poll: Callable[[File, PollTable | None], int] | None = None
    get_poll_head: Callable[[File, int], PollHead] | None = None
    poll_mask: Callable[[File, int], int] | None = None
    fsync: Callable[[File, bool], None] | None = None
    flush: Callable[[File], None] | None = None
    release: Callable[[File], None] | None = None
    llseek: Callable[[File, int, int], int] | None = None
    # How many bytes a read could return: FIONREAD.
    inq: Callable[[File], int] | None = None
    # Whether pread and pwrite take a position.
    seekable: bool = False
    # Whether there is ->write_iter, which aio needs, and not ->write alone.
    write_iter: bool = True
    # FMODE_NOWAIT: whether RWF_NOWAIT is supported.
    nowait: bool = False


class File:
    """struct file: an open file description."""

    __slots__ = (
        "ep_items",
        "f_count",
        "f_flags",
        "f_op",
        "f_pos",
        "f_wb_err",
        "private_data",
        "sched",
    )

    def __init__(self, sched: Scheduler, f_op: FileOperations, f_flags: int, private: Any) -> None:
        self.sched: Scheduler = sched
        self.f_op: FileOperations = f_op
        self.f_flags: int = f_flags
        self.private_data: Any = private
        self.f_pos: int = 0
        self.f_count: int = 1
        # The failed writebacks that this file has reported.
        self.f_wb_err: int = 0
        # The epoll items that watch this file: its release removes them.
        self.ep_items: list[Any] = []

    @property
    def readable(self) -> bool:
        return self.f_flags & O_ACCMODE in (os.O_RDONLY, os.O_RDWR)

    @property
    def writable(self) -> bool:
        return self.f_flags & O_ACCMODE in (os.O_WRONLY, os.O_RDWR)

    @property
    def nonblocking(self) -> bool:
        return bool(self.f_flags & os.O_NONBLOCK)

    def get(self) -> File:
        """get_file: one more reference."""
        assert self.f_count > 0, "reference to a file that was released"
        self.f_count += 1
        return self

    def put(self) -> None:
        """fput: drop a reference; the last one releases the file."""
        assert self.f_count > 0, "more fput than fget"
        self.f_count -= 1
        if self.f_count == 0:
            self._release()

    def put_deferred(self) -> None:
        """fput from where locks may be held: the release takes them too, so it runs later."""
        assert self.f_count > 0, "more fput than fget"
        self.f_count -= 1
        if self.f_count == 0:
            self.sched.queue_work(self._release)

    def _release(self) -> None:
        for item in list(self.ep_items):
            item.ep.remove_item(item)
        locks = getattr(self.private_data, "locks", None)
        if locks is not None:
            locks.remove_flock(self)
        if self.f_op.release is not None:
            self.f_op.release(self)


@dataclass
class FileTable:
    """struct files_struct: descriptor numbers of a process."""

    files: dict[int, File] = field(default_factory=dict)
    # The numbers below `_unused` that were closed. Those that a table got otherwise are passed by.
    _closed: list[int] = field(default_factory=list)
    # Those without close-on-exec: a flag alone, as there is no exec.
    inheritable: set[int] = field(default_factory=set)
    _unused: int = 0

    def install(self, file: File) -> int:
        """Give `file` the lowest free number; the caller's reference becomes the table's."""
        files = self.files
        while self._closed:
            fd = heapq.heappop(self._closed)
            if fd not in files:
                files[fd] = file
                return fd
        while self._unused in files:
            self._unused += 1
        fd = self._unused
        self._unused += 1
        files[fd] = file
        return fd

    def get(self, fd: int) -> File:
        """Return the file behind `fd`, without a reference of its own. EBADF if there is none."""
        file = self.files.get(fd)
        if file is None:
            raise error(errno.EBADF)
        return file

    def replace(self, fd: int, file: File) -> None:
        """Put `file` behind `fd`; what was there is closed. The caller's reference is taken."""
        before = self.files.get(fd)
        self.files[fd] = file
        if before is not None:
            # As dup2 has it, the errors of the end are lost.
            with contextlib.suppress(OSError):
                self.filp_close(before)

    def close(self, fd: int) -> None:
        """Free the number and drop its reference; requests in flight keep theirs."""
        file = self.get(fd)
        del self.files[fd]
        self.inheritable.discard(fd)
        if fd < self._unused:
            heapq.heappush(self._closed, fd)
        self.filp_close(file)

    def filp_close(self, file: File) -> None:
        """Drop a descriptor's reference, and the process's record locks. The file's own errors."""
        locks = getattr(file.private_data, "locks", None)
        if locks is not None:
            locks.remove_posix(self)
        try:
            if file.f_op.flush is not None:
                file.f_op.flush(file)
        finally:
            file.put()


def vfs_read(file: File, count: int, pos: int | None = None, *, nowait: bool = False) -> bytes:
    """Read up to `count` bytes. EBADF when not open for reading, EINVAL when it cannot read."""
    if not file.readable:
        raise error(errno.EBADF)
    if file.f_op.read is None:
        raise error(errno.EINVAL)
    if not file.f_op.seekable:
        return file.f_op.read(file, count, pos, nowait or file.nonblocking)
    data = file.f_op.read(file, count, file.f_pos if pos is None else pos, nowait)
    if pos is None:
        file.f_pos += len(data)
    return data


AT_END: Final = -1
"""The position of a write at the end, wherever that is when the bytes get there."""


def vfs_write(
    file: File,
    data: Buffer,
    pos: int | None = None,
    *,
    nowait: bool = False,
    append: bool = False,
) -> int:
    """Write `data`; append: as with O_APPEND (RWF_APPEND).

    EBADF when not open for writing, EINVAL when it cannot be written.
    """
    if not file.writable:
        raise error(errno.EBADF)
    if file.f_op.write is None:
        raise error(errno.EINVAL)
    if not file.f_op.seekable:
        return file.f_op.write(file, bytes(data), pos, nowait or file.nonblocking)
    append = append or bool(file.f_flags & os.O_APPEND)
    at = AT_END if append else file.f_pos if pos is None else pos
    written = file.f_op.write(file, bytes(data), at, nowait)
    if pos is None:
        file.f_pos += written
        if written and append and file.f_op.llseek is not None:
            file.f_op.llseek(file, 0, os.SEEK_END)
    return written


def vfs_llseek(file: File, offset: int, whence: int) -> int:
    """Move the position and return it. EINVAL for an unknown `whence`, ESPIPE."""
    if not os.SEEK_SET <= whence <= os.SEEK_HOLE:
        raise error(errno.EINVAL)
    if file.f_op.llseek is None:
        raise error(errno.ESPIPE)
    return file.f_op.llseek(file, offset, whence)


def noop_llseek(file: File, offset: int, whence: int) -> int:
    """llseek of files that have no position: it succeeds and moves nothing."""
    return file.f_pos
