"""fs/signalfd.c: pending signals as data.

Facts: reading takes a pending signal of the *reader* out of its set; the queue waited on belongs
to the sighand, not to the file.
Rule: the series does not convert it. The result of `poll_mask` would depend on the calling task,
and the queue does not live as long as the file. It has `->poll` only, so AIO poll returns EINVAL.
Left out: fields of signalfd_siginfo besides ssi_signo.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable

from .file import File, FileOperations, noop_llseek
from .select import PollTable, poll_wait
from .signal import UNBLOCKABLE, Signals
from .syscall import SyscallTable, syscall
from .uapi import EPOLLIN, error
from .wait import wait_event_interruptible

SIGINFO_SIZE = 128


class SignalFd:
    """struct signalfd_ctx."""

    def __init__(self, signals: Signals, mask: Iterable[int]) -> None:
        self.signals = signals
        self.mask: frozenset[int] = frozenset(mask) - UNBLOCKABLE

    def ready(self) -> bool:
        return not self.mask.isdisjoint(self.signals.sched.current.pending)


def signalfd_read(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    ctx: SignalFd = file.private_data
    if count < SIGINFO_SIZE:
        raise error(errno.EINVAL)
    if not ctx.ready():
        if nowait:
            raise error(errno.EAGAIN)
        wait_event_interruptible(ctx.signals.signalfd_wqh, ctx.ready)
    infos: list[bytes] = []
    while len(infos) < count // SIGINFO_SIZE:
        signo = ctx.signals.dequeue(file.sched.current, ctx.mask)
        if signo is None:
            break
        infos.append(struct.pack("<I", signo).ljust(SIGINFO_SIZE, b"\0"))
    return b"".join(infos)


def signalfd_poll(file: File, pt: PollTable | None) -> int:
    ctx: SignalFd = file.private_data
    poll_wait(file, ctx.signals.signalfd_wqh, pt)
    return EPOLLIN if ctx.ready() else 0


signalfd_fops: FileOperations = FileOperations(
    read=signalfd_read, poll=signalfd_poll, llseek=noop_llseek, nowait=True
)


class SignalFdSyscalls(SyscallTable):
    """signalfd4."""

    @syscall
    def signalfd4(self, fd: int, mask: Iterable[int], flags: int = 0) -> int:
        """Return a descriptor that reads the signals in `mask`; `fd` >= 0 gets a new mask instead.

        EINVAL for unknown flags or an `fd` that is no signalfd; EBADF.
        """
        if flags & ~(os.O_NONBLOCK | os.O_CLOEXEC):
            raise error(errno.EINVAL)
        if fd == -1:
            ctx = SignalFd(self.signals, mask)
            file = File(self.sched, signalfd_fops, os.O_RDWR | flags & os.O_NONBLOCK, ctx)
            return self.files.install(file)
        file = self.fget(fd)
        if file.f_op is not signalfd_fops:
            raise error(errno.EINVAL)
        known: SignalFd = file.private_data
        known.mask = frozenset(mask) - UNBLOCKABLE
        self.signals.signalfd_wqh.wake_up()
        return fd
