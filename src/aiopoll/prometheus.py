"""The numbers of event loops for Prometheus, by prometheus-client.

Rule.  Each registry has one collector, which reads the registered loops in the thread that is
asked for /metrics.  Loops are held weakly: one that is closed or collected is left out.
"""

import weakref
from collections.abc import Iterable, Iterator
from itertools import accumulate

from aiopoll import __version__
from aiopoll.loop.event_loop import EventLoop
from aiopoll.loop.monitor.exported import NUMBERS, Kind, Number
from aiopoll.loop.monitor.metrics import Histogram, LoopMetrics
from aiopoll.loop.monitor.registered import ForkedLock, Loops, loop_or_running

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Metric
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"aiopoll.prometheus needs prometheus-client ({_error}): pip install 'aiopoll[prometheus]'",
        name=_error.name,
    ) from _error

__all__ = ["register", "unregister"]

HISTOGRAMS = {
    "lag": ("aiopoll_lag_seconds", "How long callbacks waited in the ready queue"),
    "callback": ("aiopoll_callback_duration_seconds", "How long each callback ran"),
}
"""The histograms of Timings."""

SUFFIXES = {"s": "_seconds", "By": "_bytes"}


def register(
    loop: EventLoop | None = None,
    *,
    name: str | None = None,
    registry: CollectorRegistry = REGISTRY,
) -> str:
    """Shows the numbers of a loop in a registry, and returns its label `loop`.

    loop: the running one by default; it is measured from now on, as by start_metrics().
    name: the label; by default "main" or the name of the loop's thread, with a number if another
        loop has it.  A loop that is registered again gets the new name.
    Raises RuntimeError for no loop or a closed one, TypeError for a loop of another kind,
    ValueError for a name that another loop has.
    """
    found = loop_or_running(loop)
    with _lock:
        collector = _collectors.get(registry)
        if collector is None:
            collector = LoopCollector()
            registry.register(collector)
            _collectors[registry] = collector
    return collector.loops.add(found, name)


def unregister(loop: EventLoop | None = None, *, registry: CollectorRegistry = REGISTRY) -> None:
    """Takes a loop, the running one by default, out of a registry; it is still measured.

    Raises RuntimeError for no loop, TypeError for a loop of another kind.
    """
    found = loop_or_running(loop)
    with _lock:
        collector = _collectors.get(registry)
    if collector is not None:
        collector.loops.remove(found)


def metric_name(number: Number) -> str:
    """Returns Prometheus' name of a number."""
    name = "aiopoll_" + number.name.replace(".", "_") + SUFFIXES.get(number.unit, "")
    return name + "_total" if number.kind is Kind.COUNTER else name


class LoopCollector:
    """A collector of prometheus-client."""

    def __init__(self) -> None:
        self.loops: Loops = Loops()

    def describe(self) -> Iterable[Metric]:
        """Yields the metrics without a number."""
        return _families([], empty=True)

    def collect(self) -> Iterable[Metric]:
        """Yields the metrics of the loops that are open; called by any thread."""
        read = self.loops.read()
        return _families([(entry.name, metrics) for entry, metrics in read.items()])


def _families(loops: list[tuple[str, LoopMetrics]], empty: bool = False) -> Iterator[Metric]:
    """Yields the metrics; those without a number only where empty ones are asked for."""
    for family in (_info(loops), *_histograms(loops), *(_number(loops, n) for n in NUMBERS)):
        if empty or family.samples:
            yield family


def _info(loops: list[tuple[str, LoopMetrics]]) -> Metric:
    family = InfoMetricFamily("aiopoll_loop", "Version and backend of a loop", labels=["loop"])
    for name, metrics in loops:
        reactor = metrics.reactor
        ring = "true" if reactor.user_ring else "false"
        value = {"version": __version__, "backend": reactor.backend, "user_ring": ring}
        family.add_metric([name], value)
    return family


def _histograms(loops: list[tuple[str, LoopMetrics]]) -> Iterator[Metric]:
    for field, (name, text) in HISTOGRAMS.items():
        family = HistogramMetricFamily(name, text, labels=["loop"])
        for loop, metrics in loops:
            if metrics.timings is not None:
                times: Histogram = getattr(metrics.timings, field)
                bounds = [*map(str, times.bounds), "+Inf"]
                buckets = list(zip(bounds, accumulate(times.counts), strict=True))
                family.add_metric([loop], buckets, times.sum)
        yield family


def _number(loops: list[tuple[str, LoopMetrics]], number: Number) -> Metric:
    make = CounterMetricFamily if number.kind is Kind.COUNTER else GaugeMetricFamily
    family = make(metric_name(number), number.help, labels=["loop", *number.attributes])
    for loop, metrics in loops:
        for values, value in number.read(metrics):
            family.add_metric([loop, *values], value)
    return family


_lock = ForkedLock()
_collectors: weakref.WeakKeyDictionary[CollectorRegistry, LoopCollector] = (
    weakref.WeakKeyDictionary()
)
