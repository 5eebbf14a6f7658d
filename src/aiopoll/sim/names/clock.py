"""time and datetime: the clocks of the host that reads them.

Facts: a host's monotonic clock starts with the host; its real-time clock is set by the world,
and may drift and jump. CPU time is not simulated: process_time and thread_time read the monotonic
clock, so that a program which waits for them ends.

Rule: a sleep lasts 1 µs at least, so a loop of `sleep(0)` lets time pass. A task that reads
clocks READS_MAX times at one instant spins: from then on each read takes 1 µs.
`datetime.now` returns real datetime objects; the class in its place makes none of its own.
Left out: the machine's time zone, which `localtime` and naive datetimes use: set TZ.
"""

from __future__ import annotations

import contextlib
import copyreg
import datetime
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .. import inside
from .dispatch import Lookalike, Replacement, functions

if TYPE_CHECKING:
    from ..host import Host

NSEC_PER_SEC = 1_000_000_000
NSEC_PER_USEC = 1_000
READS_MAX = 10_000

real_datetime = datetime.datetime
real_date = datetime.date
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


class _Date(Lookalike):
    """The metaclass of the two stand-ins: a call makes an object of the real class."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if "original" in cls.__dict__:
            return cls.original(*args, **kwargs)
        return type.__call__(cls, *args, **kwargs)


def _fields(original: type) -> dict[str, Any]:
    return {
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
        "__slots__": (),
        "original": original,
        "kinds": (original,),
    }


def _make_datetime(original: Any) -> Any:
    def now(cls: Any, tz: datetime.tzinfo | None = None) -> Any:
        host = inside.host()
        if host is None:
            return super(stand_in, cls).now(tz)
        seconds, rest = divmod(time_ns(host), NSEC_PER_SEC)
        return cls.fromtimestamp(seconds, tz).replace(microsecond=rest // NSEC_PER_USEC)

    def today(cls: Any) -> Any:
        return cls.now()

    def utcnow(cls: Any) -> Any:
        return cls.now(datetime.UTC).replace(tzinfo=None)

    methods = {one.__name__: classmethod(one) for one in (now, today, utcnow)}
    stand_in: Any = _Date("datetime", (original,), {**_fields(original), **methods})
    return stand_in


def _make_date(original: Any) -> Any:
    def today(cls: Any) -> Any:
        host = inside.host()
        if host is None:
            return super(stand_in, cls).today()
        return cls.fromtimestamp(time_s(host))

    methods = {"today": classmethod(today)}
    stand_in: Any = _Date("date", (original,), {**_fields(original), **methods})
    return stand_in


def _reduce(value: datetime.date) -> tuple[Any, Any]:
    """Pickle by the class that has the name now: pickle refuses one that is not found by it."""
    kind = datetime.datetime if isinstance(value, real_datetime) else datetime.date
    return kind, value.__reduce_ex__(4)[1]


@contextlib.contextmanager
def pickled() -> Iterator[None]:
    """Let objects of the real classes be pickled while the stand-ins have their names."""
    table: dict[type, Any] = copyreg.dispatch_table
    classes = [kind for kind in (real_datetime, real_date) if kind not in table]
    for kind in classes:
        table[kind] = _reduce
    try:
        yield
    finally:
        for kind in classes:
            table.pop(kind, None)


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
            "localtime": _now_or(_localtime),
            "gmtime": _now_or(_gmtime),
            "ctime": _now_or(_ctime),
            "asctime": asctime,
            "strftime": strftime,
        },
    )
    yield datetime, "datetime", _make_datetime
    yield datetime, "date", _make_date
