"""The numbers of an event loop: what `loop.metrics()` returns."""

import asyncio
import dataclasses
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from aiopoll.loop.monitor.meter import BOUNDS
from aiopoll.reactor.statistics import ReactorStatistics

if TYPE_CHECKING:
    from aiopoll.loop.event_loop import EventLoop


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Times in buckets: a bucket counts those up to its bound, and above the bound before it."""

    bounds: tuple[float, ...]
    """The upper bounds in seconds; the last bucket has none."""
    counts: tuple[int, ...]
    """The times in each bucket, one more than there are bounds."""
    sum: float
    """All times added up, in seconds."""

    @property
    def count(self) -> int:
        """How many times there are."""
        return sum(self.counts)

    def quantile(self, fraction: float) -> float:
        """Returns an upper bound of the given fraction of the times, in seconds.

        It is the bound of a bucket: infinity for what is above all bounds, 0 without any time.
        Raises ValueError for a fraction that is not from 0 to 1.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"a fraction is from 0 to 1, not {fraction!r}")
        below = list(accumulate(self.counts))
        if not below[-1]:
            return 0.0
        bucket = bisect_left(below, max(1, fraction * below[-1]))
        return self.bounds[bucket] if bucket < len(self.bounds) else float("inf")

    def since(self, earlier: "Histogram | None") -> "Histogram":
        """Returns the times that have come since an earlier reading of the same loop."""
        if earlier is None:
            return self
        counts = tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True))
        return Histogram(self.bounds, counts, self.sum - earlier.sum)


class Timings(NamedTuple):
    """What start_metrics() has had measured since."""

    lag: Histogram
    """How long callbacks waited in the ready queue.

    A file's waits from when the kernel reported it, a timer's from its deadline, others' from
    call_soon().
    """
    callback: Histogram
    """How long each callback ran."""
    polling_seconds: float
    """Time in which the loop submitted, reaped and looked at the ring."""
    sleeping_seconds: float
    """Time in which the loop waited in the kernel."""

    @property
    def callbacks_seconds(self) -> float:
        """Time in callbacks."""
        return self.callback.sum

    @property
    def utilization(self) -> float:
        """The part of the time that the loop did not sleep, from 0 to 1."""
        busy = self.callback.sum + self.polling_seconds
        return busy / (busy + self.sleeping_seconds) if busy else 0.0


class ThreadPoolMetrics(NamedTuple):
    """The default executor, now."""

    threads: int
    """Threads that were started."""
    idle: int
    """Of those, the threads that wait for work."""
    limit: int
    """The most that it starts."""
    queued: int
    """Calls that wait for a thread."""


class LoopMetrics(NamedTuple):
    """Counts since the loop was made, unless said to be of this moment."""

    timings: Timings | None
    """How long callbacks wait and run; None unless start_metrics() was called."""
    iterations: int
    """Iterations of the loop."""
    callbacks: int
    """Callbacks that were run, cancelled ones too."""
    ready: int
    """Callbacks in the ready queue, now."""
    timers: int
    """Timers to come, now, those that were cancelled lately too."""
    tasks: int
    """Tasks that have not ended, now."""
    tasks_created: int
    """Tasks made by create_task()."""
    connections: int
    """Transports of sockets, now."""
    connections_made: int
    """Stream connections that were made or accepted."""
    bytes_received: int
    """Bytes received by transports and sock_* methods."""
    bytes_sent: int
    """Bytes that the kernel took from transports and sock_* methods; sendfile's are left out."""
    stalls: int
    """Stalls seen; 0 while they are not watched for."""
    stalled_seconds: float
    """Time in stalls."""
    thread_pool: ThreadPoolMetrics | None
    """The default executor; None while there is none, or it is of another kind."""
    reactor: ReactorStatistics
    """What statistics() returns: polls, reaps, slots, overflow."""
    files: Any
    """What aiopoll.file_statistics() returns; None while the loop has no files."""


def _histogram(values: tuple[Sequence[int], float]) -> Histogram:
    return Histogram(BOUNDS, tuple(values[0]), values[1])


def _thread_pool(executor: Any) -> ThreadPoolMetrics | None:
    try:
        # The executor's own names: it publishes none of these.  No import: at exit it fails.
        idle = executor._idle_semaphore._value
        threads = len(executor._threads)
        return ThreadPoolMetrics(
            threads, min(idle, threads), executor._max_workers, executor._work_queue.qsize()
        )
    except AttributeError:
        return None


def read_metrics(loop: "EventLoop") -> LoopMetrics:
    """Reads the numbers of a loop; any thread may.  RuntimeError once the loop is closed."""
    reactor = loop.statistics()
    measured = loop._measured()
    timings = None
    if measured is not None:
        lag, callback, polling, sleeping = measured
        timings = Timings(_histogram(lag), _histogram(callback), polling, sleeping)
    callbacks, tasks_created, connections_made, received, sent = loop._counted()
    files = loop._aiopoll_files
    return LoopMetrics(
        timings=timings,
        iterations=reactor.iterations,
        callbacks=callbacks,
        ready=len(loop._ready),
        timers=loop._timer_count(),
        tasks=len(asyncio.all_tasks(loop)),
        tasks_created=tasks_created,
        connections=len(loop._transports),
        connections_made=connections_made,
        bytes_received=received,
        bytes_sent=sent,
        stalls=loop.stall_count,
        stalled_seconds=sum(total.seconds for total in loop.stalls()),
        thread_pool=_thread_pool(loop._default_executor),
        reactor=reactor,
        files=None if files is None else files.statistics(),
    )
