"""time and datetime: the clocks of the host that reads them.

Facts: a host's monotonic clock starts with the host; its real-time clock is set by the world,
and may drift and jump. CPU time is not simulated: process_time and thread_time read the monotonic
clock, so that a program which waits for them ends.

Rule: a sleep lasts 1 µs at least, so a loop of `sleep(0)` lets time pass. A task that reads
clocks READS_MAX times at one instant spins: from then on each read takes 1 µs.
`datetime` stays the class it is, with other methods: a class in its place would be kept by
extensions of C and Rust, which then take no real object for a datetime.
Left out: the machine's time zone, which `localtime` and naive datetimes use: set TZ.
"""

from __future__ import annotations

import datetime
import logging
import sched
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...kernel.kernel import BOOT_TIME_NS
from .. import inside
from .dispatch import Replacement, Value, functions, method
from .escape import refuse

if TYPE_CHECKING:
    from ..host import Host

NSEC_PER_SEC = 1_000_000_000
NSEC_PER_USEC = 1_000
READS_MAX = 10_000
SET_CLOCK = "set the host's clock by world.clock(host, jump=seconds)"

_localtime, _gmtime, _ctime = time.localtime, time.gmtime, time.ctime
_asctime, _strftime = time.asctime, time.strftime
_get_clock_info = time.get_clock_info


class _Spin:
    """How often a task has read clocks at one instant of the world."""

    __slots__ = ("at_ns", "reads", "task")

    def __init__(self) -> None:
        self.at_ns = -1
        self.reads = 0
        self.task: Any = None


_spin = _Spin()


def _spinning(host: Host) -> None:
    """Let 1 µs pass if the current task has read clocks too often at this instant."""
    sched = host.kernel.sched
    now_ns = sched.clock.now_ns
    if _spin.at_ns != now_ns or _spin.task is not sched.current:
        _spin.at_ns, _spin.task, _spin.reads = now_ns, sched.current, 0
    _spin.reads += 1
    if _spin.reads > READS_MAX:
        sleep_ns(host, NSEC_PER_USEC)
        _spin.at_ns = sched.clock.now_ns


def monotonic_ns(host: Host) -> int:
    _spinning(host)
    return host.monotonic_ns()


def monotonic(host: Host) -> float:
    _spinning(host)
    return host.monotonic_ns() / NSEC_PER_SEC


def time_ns(host: Host) -> int:
    _spinning(host)
    return host.realtime_ns()


def time_s(host: Host) -> float:
    _spinning(host)
    return host.realtime_ns() / NSEC_PER_SEC


REALTIME = {
    getattr(time, name)
    for name in ("CLOCK_REALTIME", "CLOCK_TAI", "CLOCK_REALTIME_COARSE")
    if hasattr(time, name)
}


def clock_gettime_ns(host: Host, clock: int) -> int:
    return time_ns(host) if clock in REALTIME else monotonic_ns(host)


def clock_gettime(host: Host, clock: int) -> float:
    return clock_gettime_ns(host, clock) / NSEC_PER_SEC


def clock_getres(host: Host, clock: int) -> float:
    return 1 / NSEC_PER_SEC


def sleep_ns(host: Host, duration_ns: int) -> None:
    """Sleep on the kernel, on after signals whose handlers raise nothing (PEP 475)."""
    clock = host.kernel.sched.clock
    until_ns = clock.now_ns + duration_ns
    while True:
        try:
            return host.kernel.nanosleep(max(until_ns - clock.now_ns, 0))
        except InterruptedError:
            pass


def sleep(host: Host, seconds: Any, /) -> None:
    """time.sleep: TypeError for what is no number, ValueError if negative."""
    if not isinstance(seconds, (int, float)):
        seconds = seconds.__float__() if hasattr(seconds, "__float__") else seconds.__index__()
    if seconds != seconds:
        raise ValueError("Invalid value NaN (not a number)")
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    sleep_ns(host, max(round(seconds * NSEC_PER_SEC), NSEC_PER_USEC))


def _now_or(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call(seconds)` with the host's time where the program gives None or nothing."""

    def simulated(host: Host, seconds: float | None = None, /) -> Any:
        return call(time_s(host) if seconds is None else seconds)

    return simulated


def asctime(host: Host, *given: Any) -> str:
    return _asctime(*given) if given else _asctime(_localtime(time_s(host)))


def strftime(host: Host, format: str, *given: Any) -> str:
    return _strftime(format, *given) if given else _strftime(format, _localtime(time_s(host)))


def get_clock_info(host: Host, name: Any) -> Any:
    known = _get_clock_info(name)
    known.resolution = 1 / NSEC_PER_SEC
    return known


# datetime


def _make_now(original: Any) -> Any:
    def now(cls: Any, tz: datetime.tzinfo | None = None) -> Any:
        """Return the current time of the host, in `tz` or as local time."""
        host = inside.host()
        if host is None:
            return original.__get__(None, cls)(tz)
        seconds, rest = divmod(time_ns(host), NSEC_PER_SEC)
        return cls.fromtimestamp(seconds, tz).replace(microsecond=rest // NSEC_PER_USEC)

    return classmethod(now)


def _make_utcnow(original: Any) -> Any:
    def utcnow(cls: Any) -> Any:
        """Return the current time of the host in UTC, without a zone."""
        if inside.host() is None:
            return original.__get__(None, cls)()
        if sys.version_info >= (3, 12):
            warnings.warn("datetime.utcnow() is deprecated", DeprecationWarning, stacklevel=2)
        return cls.now(datetime.UTC).replace(tzinfo=None)

    return classmethod(utcnow)


def _make_today(original: Any) -> Any:
    def today(cls: Any) -> Any:
        """Return the current local date of the host, or the time for a datetime."""
        host = inside.host()
        if host is None:
            return original.__get__(None, cls)()
        return cls.fromtimestamp(time_s(host))

    return classmethod(today)


def values() -> Iterable[Value]:
    """The records of logging count from the start of the world."""
    begun: Any = logging._startTime  # type: ignore[attr-defined]
    boot: Any = BOOT_TIME_NS if isinstance(begun, int) else BOOT_TIME_NS / NSEC_PER_SEC
    yield logging, "_startTime", lambda: boot


def _scheduler(host: Host, original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    """sched.scheduler: the clock and the sleep that its default arguments hold are real."""
    given = dict(zip(("timefunc", "delayfunc"), args, strict=False), **kwargs)
    original(self, **{"timefunc": time.monotonic, "delayfunc": time.sleep, **given})


def end() -> None:
    _spin.task = None


def replacements() -> Iterable[Replacement]:
    yield from functions(
        time,
        {
            "time": time_s,
            "time_ns": time_ns,
            "monotonic": monotonic,
            "monotonic_ns": monotonic_ns,
            "perf_counter": monotonic,
            "perf_counter_ns": monotonic_ns,
            "process_time": monotonic,
            "process_time_ns": monotonic_ns,
            "thread_time": monotonic,
            "thread_time_ns": monotonic_ns,
            "clock_gettime": clock_gettime,
            "clock_gettime_ns": clock_gettime_ns,
            "clock_getres": clock_getres,
            "get_clock_info": get_clock_info,
            "sleep": sleep,
            "clock_settime": refuse("time.clock_settime", SET_CLOCK),
            "clock_settime_ns": refuse("time.clock_settime_ns", SET_CLOCK),
            "pthread_getcpuclockid": refuse("the CPU time of a thread", "use time.thread_time"),
            "localtime": _now_or(_localtime),
            "gmtime": _now_or(_gmtime),
            "ctime": _now_or(_ctime),
            "asctime": asctime,
            "strftime": strftime,
        },
    )
    yield sched.scheduler, "__init__", method(_scheduler)
    yield datetime.datetime, "now", _make_now
    yield datetime.datetime, "utcnow", _make_utcnow
    yield datetime.date, "today", _make_today
