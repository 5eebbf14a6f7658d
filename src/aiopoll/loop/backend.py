"""The options of a loop that the environment can set, checked."""

import os
from typing import TYPE_CHECKING

from aiopoll.loop.cpu_quota import quota_cpus

if TYPE_CHECKING:
    from aiopoll.loop.monitor.tracing import Trace

BACKENDS = ("auto", "aio", "epoll")


def requested_backend(backend: str) -> str:
    """The backend asked for: the argument, or AIOPOLL_BACKEND where that leaves it to us.

    Raises ValueError for a name that is no backend.
    """
    source = "backend"
    if backend == "auto" and (forced := os.environ.get("AIOPOLL_BACKEND")):
        source, backend = "AIOPOLL_BACKEND", forced
    if backend not in BACKENDS:
        raise ValueError(f"{source} must be one of {', '.join(BACKENDS)}, not {backend!r}")
    return backend


BUSY_POLL_AUTO_NS = 100_000
"""The longest time that "auto" spends before a sleep: about the cost of sleeping and waking."""


def busy_poll_ns(busy_poll: str | float, backend: str) -> int:
    """The option `busy_poll` as AioReactor takes it: in nanoseconds, negative for adaptive.

    Raises TypeError or ValueError for what is neither "auto" nor a number of seconds up to 1.
    """
    if busy_poll == "auto":
        # Where there is less than a CPU, looking would use up what the work needs; epoll has no
        # ring to look at.
        looks = backend != "epoll" and (os.cpu_count() or 1) > 1 and quota_cpus() >= 1
        return -BUSY_POLL_AUTO_NS if looks else 0
    if isinstance(busy_poll, bool) or not isinstance(busy_poll, (int, float)):
        raise TypeError(f'busy_poll must be "auto" or a number of seconds, not {busy_poll!r}')
    if not 0 <= busy_poll <= 1:
        raise ValueError(f"busy_poll must be from 0 to 1 second, not {busy_poll!r}")
    return round(busy_poll * 1e9)


def forced_wait() -> str | None:
    """Where AIOPOLL_WAIT has backend "auto" wait: "ring", "set", "both", or None for what pays.

    Raises ValueError for other values.
    """
    wait = os.environ.get("AIOPOLL_WAIT")
    if wait not in (None, "ring", "set", "both"):
        raise ValueError(f"AIOPOLL_WAIT must be ring, set or both, not {wait!r}")
    return wait


def requested_metrics(metrics: bool | None) -> bool:
    """Whether to measure: the argument, or AIOPOLL_METRICS where that is None.

    Raises ValueError for a value of the variable other than 0 and 1.
    """
    if metrics is not None:
        return metrics
    wanted = os.environ.get("AIOPOLL_METRICS") or "0"
    if wanted not in ("0", "1"):
        raise ValueError(f"AIOPOLL_METRICS must be 0 or 1, not {wanted!r}")
    return wanted == "1"


def requested_trace(trace: str | os.PathLike[str] | bool | None) -> "Trace | None":
    """The trace asked for: of the argument's path, or the process's where that is None.

    Raises OSError where no file can be made there, TypeError for True.
    """
    if trace is False:
        return None
    if trace is None and not (
        os.environ.get("AIOPOLL_TRACE") or os.environ.get("AIOPOLL_TRACE_SIGNAL")
    ):
        return None
    # What nothing asks for is not loaded.
    from aiopoll.loop.monitor.tracing import Trace, trace_of_process

    if trace is None:
        return trace_of_process()
    if trace is True:
        raise TypeError("trace must be a path, False or None, not True")
    return Trace(trace)
