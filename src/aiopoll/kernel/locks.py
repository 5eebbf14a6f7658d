"""fs/locks.c: flock(2), and record locks by fcntl(2).

Facts: a flock belongs to an open file, so two opens of one process exclude each other, and a dup
does not. A record lock belongs to a process, and goes when that closes any descriptor of the file.
A stronger flock is not an upgrade: the old one is given up first. The two kinds do not see each
other. Here a lock is of one inode, whatever its name is.
Left out: leases, mandatory locks, detection of deadlocks (EDEADLK), locks of the open file
description (F_OFD_*).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass

from .file import File, FileTable
from .inode import Node
from .sched import Scheduler
from .syscall import SyscallTable, syscall
from .uapi import LONG_MAX, error
from .wait import WaitQueueHead, wait_event_interruptible


@dataclass(frozen=True)
class RecordLock:
    """A record lock on the bytes from `start` up to, not including, `end`."""

    owner: FileTable
    pid: int
    exclusive: bool
    start: int
    end: int

    def meets(self, start: int, end: int) -> bool:
        return self.start < end and start < self.end


class FileLocks:
    """struct file_lock_context: the locks of one inode."""

    def __init__(self, sched: Scheduler) -> None:
        self.queue: WaitQueueHead = WaitQueueHead(sched, "file_lock->fl_wait")
        self.flocks: dict[File, bool] = {}
        self.records: list[RecordLock] = []

    def flock_conflict(self, file: File, exclusive: bool) -> bool:
        return any(other is not file and (exclusive or held) for other, held in self.flocks.items())

    def remove_flock(self, file: File) -> None:
        if self.flocks.pop(file, None) is not None:
            self.queue.wake_up_all()

    def record_conflict(self, wanted: RecordLock) -> RecordLock | None:
        for held in self.records:
            if (
                held.owner is not wanted.owner
                and held.meets(wanted.start, wanted.end)
                and (held.exclusive or wanted.exclusive)
            ):
                return held
        return None

    def set_record(self, owner: FileTable, start: int, end: int, new: RecordLock | None) -> None:
        """Replace what `owner` holds from `start` to `end` by `new`, or by nothing."""
        kept: list[RecordLock] = []
        for held in self.records:
            if held.owner is not owner or not held.meets(start, end):
                kept.append(held)
                continue
            for first, last in ((held.start, start), (end, held.end)):
                if first < last:
                    kept.append(RecordLock(owner, held.pid, held.exclusive, first, last))
        self.records = [*kept, new] if new is not None else kept
        self.queue.wake_up_all()

    def remove_posix(self, owner: FileTable) -> None:
        if any(held.owner is owner for held in self.records):
            self.set_record(owner, 0, LONG_MAX, None)


def locks_of(file: File) -> FileLocks:
    """Return the locks of a file's inode. EBADF where it has none: pipes, sockets."""
    node = file.private_data
    if not isinstance(node, Node):
        raise error(errno.EBADF)
    if node.locks is None:
        node.locks = FileLocks(file.sched)
    return node.locks


class LockSyscalls(SyscallTable):
    """flock, and fcntl's record locks."""

    @syscall
    def flock(self, fd: int, operation: int) -> None:
        """Lock a whole file. EBADF, EINVAL, EWOULDBLOCK (LOCK_NB), EINTR. See flock(2)."""
        kind = operation & ~fcntl.LOCK_NB
        if kind not in (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN):
            raise error(errno.EINVAL)
        file = self.fget(fd)
        locks = locks_of(file)
        if kind == fcntl.LOCK_UN:
            locks.remove_flock(file)
            return
        exclusive = kind == fcntl.LOCK_EX
        if locks.flocks.get(file) == exclusive:
            return
        locks.remove_flock(file)
        if locks.flock_conflict(file, exclusive):
            if operation & fcntl.LOCK_NB:
                raise error(errno.EWOULDBLOCK)
            self._wait(locks, lambda: not locks.flock_conflict(file, exclusive))
        locks.flocks[file] = exclusive

    @staticmethod
    def _wait(locks: FileLocks, free: Callable[[], bool]) -> None:
        wait_event_interruptible(locks.queue, free)

    @syscall
    def setlk(
        self, fd: int, kind: int, start: int = 0, length: int = 0, whence: int = 0, *, wait: bool
    ) -> None:
        """fcntl(F_SETLK) and F_SETLKW: `kind` is F_RDLCK, F_WRLCK or F_UNLCK. See fcntl(2).

        EBADF, EINVAL, EAGAIN (held by another process), EINTR.
        """
        file = self.fget(fd)
        first, end = self._range(file, start, length, whence)
        owner = self.files
        if kind == fcntl.F_UNLCK:
            locks_of(file).set_record(owner, first, end, None)
            return
        if kind not in (fcntl.F_RDLCK, fcntl.F_WRLCK):
            raise error(errno.EINVAL)
        if not (file.writable if kind == fcntl.F_WRLCK else file.readable):
            raise error(errno.EBADF)
        locks = locks_of(file)
        pid = self.sched.current.process.pid
        new = RecordLock(owner, pid, kind == fcntl.F_WRLCK, first, end)
        if locks.record_conflict(new) is not None:
            if not wait:
                raise error(errno.EAGAIN)
            self._wait(locks, lambda: locks.record_conflict(new) is None)
        locks.set_record(owner, first, end, new)

    @syscall
    def getlk(
        self, fd: int, kind: int, start: int = 0, length: int = 0, whence: int = 0
    ) -> tuple[int, int, int, int]:
        """fcntl(F_GETLK): return kind, start, length and pid of a lock in the way.

        The kind is F_UNLCK if there is none. EBADF, EINVAL.
        """
        if kind not in (fcntl.F_RDLCK, fcntl.F_WRLCK):
            raise error(errno.EINVAL)
        file = self.fget(fd)
        first, end = self._range(file, start, length, whence)
        wanted = RecordLock(self.files, 0, kind == fcntl.F_WRLCK, first, end)
        held = locks_of(file).record_conflict(wanted)
        if held is None:
            return fcntl.F_UNLCK, start, length, 0
        size = 0 if held.end == LONG_MAX else held.end - held.start
        return (fcntl.F_WRLCK if held.exclusive else fcntl.F_RDLCK), held.start, size, held.pid

    @staticmethod
    def _range(file: File, start: int, length: int, whence: int) -> tuple[int, int]:
        """flock_to_posix_lock: the range, which a negative length puts before its start."""
        if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise error(errno.EINVAL)
        size = file.private_data.size if isinstance(file.private_data, Node) else 0
        first = start + {os.SEEK_SET: 0, os.SEEK_CUR: file.f_pos, os.SEEK_END: size}[whence]
        end = first + length if length else LONG_MAX
        if length < 0:
            first, end = end, first
        if first < 0:
            raise error(errno.EINVAL)
        return first, end
