"""fs/eventfd.c: a counter behind a descriptor.

Facts: 64 bits; write adds, read takes all of it (or one, EFD_SEMAPHORE) and sleeps at zero; a
write that would pass 2**64-2 sleeps. The kernel's own signals may reach 2**64-1: POLLERR.
Rule: a write wakes with IN, a read with OUT. Left out: the per-task recursion guard.
"""

from __future__ import annotations

import errno
import os

from .file import File, FileOperations, noop_llseek
from .sched import Scheduler
from .syscall import SyscallTable, syscall
from .uapi import EPOLLERR, EPOLLIN, EPOLLOUT, error
from .wait import WaitQueueHead, wait_event_interruptible

EFD_SEMAPHORE = 1
ULLONG_MAX = (1 << 64) - 1


class EventFd:
    """struct eventfd_ctx."""

    def __init__(self, sched: Scheduler, count: int, semaphore: bool) -> None:
        self.wqh: WaitQueueHead = WaitQueueHead(sched, "eventfd->wqh")
        self.count: int = count
        self.semaphore = semaphore

    def signal(self, n: int = 1) -> None:
        """eventfd_signal: add without ever sleeping; the counter stops at its limit."""
        with self.wqh.lock:
            self.count = min(self.count + n, ULLONG_MAX)
            self.wqh.wake_up_locked(EPOLLIN)


def eventfd_read(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    ctx: EventFd = file.private_data
    if count < 8:
        raise error(errno.EINVAL)
    while not ctx.count:
        if nowait:
            raise error(errno.EAGAIN)
        wait_event_interruptible(ctx.wqh, lambda: ctx.count > 0)
    with ctx.wqh.lock:
        value = 1 if ctx.semaphore else ctx.count
        ctx.count -= value
        ctx.wqh.wake_up_locked(EPOLLOUT)
    return value.to_bytes(8, "little")


def eventfd_write(file: File, data: bytes, pos: int | None, nowait: bool) -> int:
    ctx: EventFd = file.private_data
    if len(data) != 8:
        raise error(errno.EINVAL)
    value = int.from_bytes(data, "little")
    if value == ULLONG_MAX:
        raise error(errno.EINVAL)
    while ULLONG_MAX - ctx.count <= value:
        if nowait:
            raise error(errno.EAGAIN)
        wait_event_interruptible(ctx.wqh, lambda: ULLONG_MAX - ctx.count > value)
    with ctx.wqh.lock:
        ctx.count += value
        ctx.wqh.wake_up_locked(EPOLLIN)
    return 8


def eventfd_get_poll_head(file: File, events: int) -> WaitQueueHead:
    ctx: EventFd = file.private_data
    return ctx.wqh


def eventfd_poll_mask(file: File, events: int) -> int:
    ctx: EventFd = file.private_data
    mask = 0
    if ctx.count > 0:
        mask |= EPOLLIN
    if ctx.count == ULLONG_MAX:
        mask |= EPOLLERR
    if ctx.count < ULLONG_MAX - 1:
        mask |= EPOLLOUT
    return mask


eventfd_fops: FileOperations = FileOperations(
    read=eventfd_read,
    write=eventfd_write,
    get_poll_head=eventfd_get_poll_head,
    poll_mask=eventfd_poll_mask,
    llseek=noop_llseek,
    write_iter=False,
    nowait=True,
)


class EventFdSyscalls(SyscallTable):
    """eventfd2."""

    @syscall
    def eventfd2(self, initval: int = 0, flags: int = 0) -> int:
        """Return a descriptor of a new counter. EINVAL for unknown flags."""
        if flags & ~(EFD_SEMAPHORE | os.O_NONBLOCK | os.O_CLOEXEC):
            raise error(errno.EINVAL)
        ctx = EventFd(self.sched, initval & 0xFFFFFFFF, bool(flags & EFD_SEMAPHORE))
        file = File(self.sched, eventfd_fops, os.O_RDWR | flags & os.O_NONBLOCK, ctx)
        return self.files.install(file)
