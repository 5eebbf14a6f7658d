"""fs/timerfd.c: a timer behind a descriptor.

Facts: `read` returns how often the timer expired since it was last read or set, and sleeps while
that is zero. Setting a timer forgets the expiries before. An interval catches up: ticks that
fell due together are counted, not lost.
Rule: the expiry wakes with IN, in interrupt context.
Left out: the effect of TFD_TIMER_CANCEL_ON_SET (the virtual clock is never set), alarm clocks,
TFD_IOC_SET_TICKS.
"""

from __future__ import annotations

import errno
import os
import time

from .file import File, FileOperations, noop_llseek
from .hrtimer import HrTimer
from .sched import Scheduler
from .syscall import SyscallTable, syscall
from .uapi import EPOLLIN, NSEC_PER_SEC, error
from .wait import WaitQueueHead, wait_event_interruptible

TFD_TIMER_ABSTIME = 1
TFD_TIMER_CANCEL_ON_SET = 2
KTIME_MAX = (1 << 63) - 1


class TimerFd:
    """struct timerfd_ctx. `offset_ns` turns the timer's clock into the monotonic one."""

    def __init__(self, sched: Scheduler, offset_ns: int) -> None:
        self.sched = sched
        self.wqh: WaitQueueHead = WaitQueueHead(sched, "timerfd->wqh")
        self.offset_ns = offset_ns
        self.timer: HrTimer = HrTimer(self._expire)
        self.expires_ns: int = 0
        self.interval_ns: int = 0
        self.ticks: int = 0

    def _expire(self) -> None:
        clock = self.sched.clock
        with self.wqh.lock:
            expiries = 1
            if self.interval_ns:
                # hrtimer_forward_now: all that fell due by now, and the first that did not.
                expiries += (clock.now_ns - self.expires_ns) // self.interval_ns
                self.expires_ns += expiries * self.interval_ns
                clock.start(self.timer, self.expires_ns)
            self.ticks += expiries
            self.wqh.wake_up_locked(EPOLLIN)

    def remaining(self) -> tuple[int, int]:
        """Return (time to the next expiry, interval): 0 for a timer that is not armed."""
        expires = self.timer.expires_ns
        if expires is None:
            return 0, self.interval_ns
        return max(expires - self.sched.clock.now_ns, 1), self.interval_ns

    def set(self, value_ns: int, interval_ns: int, absolute: bool) -> None:
        clock = self.sched.clock
        clock.cancel(self.timer)
        self.ticks = 0
        self.interval_ns = interval_ns
        if value_ns:
            expires = value_ns - self.offset_ns if absolute else clock.now_ns + value_ns
            self.expires_ns = min(expires, KTIME_MAX)
            clock.start(self.timer, self.expires_ns)
            if expires <= clock.now_ns:
                self.sched.fire_due()


def timerfd_read(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    ctx: TimerFd = file.private_data
    if count < 8:
        raise error(errno.EINVAL)
    while not ctx.ticks:
        if nowait:
            raise error(errno.EAGAIN)
        wait_event_interruptible(ctx.wqh, lambda: ctx.ticks > 0)
    with ctx.wqh.lock:
        ticks, ctx.ticks = ctx.ticks, 0
    return ticks.to_bytes(8, "little")


def timerfd_get_poll_head(file: File, events: int) -> WaitQueueHead:
    ctx: TimerFd = file.private_data
    return ctx.wqh


def timerfd_poll_mask(file: File, events: int) -> int:
    ctx: TimerFd = file.private_data
    return EPOLLIN if ctx.ticks else 0


def timerfd_release(file: File) -> None:
    ctx: TimerFd = file.private_data
    file.sched.clock.cancel(ctx.timer)


timerfd_fops: FileOperations = FileOperations(
    read=timerfd_read,
    get_poll_head=timerfd_get_poll_head,
    poll_mask=timerfd_poll_mask,
    release=timerfd_release,
    llseek=noop_llseek,
    nowait=True,
)


class TimerFdSyscalls(SyscallTable):
    """timerfd_create, timerfd_settime, timerfd_gettime. Times are in nanoseconds."""

    @syscall
    def timerfd_create(self, clockid: int = time.CLOCK_MONOTONIC, flags: int = 0) -> int:
        """Create a timer; returns its descriptor. EINVAL for an unknown clock or flags."""
        offsets = {
            time.CLOCK_MONOTONIC: 0,
            time.CLOCK_BOOTTIME: 0,
            time.CLOCK_REALTIME: self.sched.clock.realtime_offset_ns,
        }
        if flags & ~(os.O_NONBLOCK | os.O_CLOEXEC) or clockid not in offsets:
            raise error(errno.EINVAL)
        ctx = TimerFd(self.sched, offsets[clockid])
        file = File(self.sched, timerfd_fops, os.O_RDWR | flags & os.O_NONBLOCK, ctx)
        return self.files.install(file)

    def _timerfd(self, fd: int) -> TimerFd:
        file = self.fget(fd)
        if file.f_op is not timerfd_fops:
            raise error(errno.EINVAL)
        ctx: TimerFd = file.private_data
        return ctx

    @syscall
    def timerfd_settime(
        self, fd: int, value_ns: int, interval_ns: int = 0, flags: int = 0
    ) -> tuple[int, int]:
        """Arm (or with `value_ns` 0 disarm) the timer; returns the previous (value, interval).

        EINVAL for bad flags, negative or too long times, or a descriptor that is no timer.
        """
        longest = KTIME_MAX // NSEC_PER_SEC * NSEC_PER_SEC
        if flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) or not (
            0 <= value_ns <= longest and 0 <= interval_ns <= longest
        ):
            raise error(errno.EINVAL)
        ctx = self._timerfd(fd)
        before = ctx.remaining()
        ctx.set(value_ns, interval_ns, bool(flags & TFD_TIMER_ABSTIME))
        return before

    @syscall
    def timerfd_gettime(self, fd: int) -> tuple[int, int]:
        """Return (time to the next expiry, interval); the first is 0 if the timer is not armed."""
        return self._timerfd(fd).remaining()
