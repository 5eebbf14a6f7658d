"""The numbers of event loops for OpenTelemetry, by its API.

Facts.  A collection calls the function of each instrument once, in the order of their making.  The
API has no histogram that is read: OpenTelemetry's conventions for Node.js have gauges of quantiles.

Rule.  A collection reads each loop once, for all instruments.  Quantiles and utilization are of the
time since the collection before.  What has no number in that time is left out.

What the conventions name for Node.js, as nodejs.eventloop.delay.p99, has its name with `asyncio`.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from aiopoll import __version__
from aiopoll.loop.event_loop import EventLoop
from aiopoll.loop.monitor.exported import LOOP_TIME, NUMBERS, Kind, Number
from aiopoll.loop.monitor.metrics import Histogram, LoopMetrics, Timings
from aiopoll.loop.monitor.registered import ForkedLock, Loops, Registered, loop_or_running

try:
    from opentelemetry.metrics import (
        CallbackOptions,
        Meter,
        MeterProvider,
        Observation,
        get_meter_provider,
    )
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"aiopoll.otel needs opentelemetry-api ({_error}): pip install 'aiopoll[otel]'",
        name=_error.name,
    ) from _error

__all__ = ["instrument", "uninstrument"]

LOOP_NAME = "asyncio.eventloop.name"


def instrument(
    loop: EventLoop | None = None,
    *,
    name: str | None = None,
    meter_provider: MeterProvider | None = None,
) -> str:
    """Shows the numbers of a loop, and returns its attribute `asyncio.eventloop.name`.

    loop: the running one by default; it is measured from now on, as by start_metrics().
    name: the attribute; by default "main" or the name of the loop's thread, with a number if
        another loop has it.  A loop that is instrumented again gets the new name.
    meter_provider: the global one by default.
    Raises RuntimeError for no loop or a closed one, TypeError for a loop of another kind,
    ValueError for a name that another loop has.
    """
    found = loop_or_running(loop)
    provider = meter_provider or get_meter_provider()
    with _lock:
        exporter = _exporters.get(provider)
        if exporter is None:
            exporter = _exporters[provider] = Exporter(provider.get_meter("aiopoll", __version__))
    return exporter.loops.add(found, name)


def uninstrument(
    loop: EventLoop | None = None, *, meter_provider: MeterProvider | None = None
) -> None:
    """Shows a loop, the running one by default, no longer; it is still measured.

    Raises RuntimeError for no loop, TypeError for a loop of another kind.
    """
    found = loop_or_running(loop)
    with _lock:
        exporter = _exporters.get(meter_provider or get_meter_provider())
    if exporter is not None:
        exporter.loops.remove(found)


def metric_name(number: Number) -> str:
    """Returns OpenTelemetry's name of a number."""
    return "asyncio.eventloop.time" if number is LOOP_TIME else f"aiopoll.{number.name}"


def attribute_name(number: Number, attribute: str) -> str:
    """Returns OpenTelemetry's name of an attribute of a number."""
    return ("asyncio.eventloop." if number is LOOP_TIME else "aiopoll.") + attribute


class Gauge(NamedTuple):
    """A number of the time since the last collection."""

    name: str
    unit: str
    description: str
    read: Callable[[Timings], float | None]
    """Returns None where nothing was measured."""


def _utilization(timings: Timings) -> float | None:
    # A sleep is counted when it ends.
    busy = timings.callbacks_seconds + timings.polling_seconds
    return timings.utilization if busy + timings.sleeping_seconds else None


def _mean(field: str, timings: Timings) -> float | None:
    times: Histogram = getattr(timings, field)
    return times.sum / times.count if times.count else None


def _quantile(field: str, fraction: float, timings: Timings) -> float | None:
    # What is above all bounds counts as the last one, as in Prometheus' histogram_quantile().
    times: Histogram = getattr(timings, field)
    return min(times.quantile(fraction), times.bounds[-1]) if times.count else None


def _of_times(field: str, name: str, text: str) -> Iterator[Gauge]:
    yield Gauge(f"{name}.mean", "s", f"{text}: mean", partial(_mean, field))
    for word, fraction in {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}.items():
        yield Gauge(f"{name}.{word}", "s", f"{text}: {word}", partial(_quantile, field, fraction))


GAUGES = (
    Gauge(
        "asyncio.eventloop.utilization",
        "1",
        "The part of the time that the loop did not sleep",
        _utilization,
    ),
    *_of_times("lag", "asyncio.eventloop.delay", "How long callbacks waited"),
    *_of_times("callback", "aiopoll.callback.duration", "How long callbacks ran"),
)


class Exporter:
    """The instruments of one provider, and the loops that they show."""

    def __init__(self, meter: Meter) -> None:
        self.loops: Loops = Loops()
        self._lock: ForkedLock = ForkedLock()
        self._observed: set[str] = set()
        self._now: dict[Registered, LoopMetrics] = {}
        self._before: dict[Registered, LoopMetrics] = {}
        for number in NUMBERS:
            self._observe_number(meter, number)
        for gauge in GAUGES:
            self._observe_gauge(meter, gauge)

    def _observe_number(self, meter: Meter, number: Number) -> None:
        name = metric_name(number)

        def observe(options: CallbackOptions) -> Iterable[Observation]:
            now, _ = self._read(name)
            for entry, metrics in now.items():
                for values, value in number.read(metrics):
                    keys = (attribute_name(number, attribute) for attribute in number.attributes)
                    attributes = dict(zip(keys, values, strict=True))
                    yield Observation(value, {LOOP_NAME: entry.name, **attributes})

        create = {
            Kind.COUNTER: meter.create_observable_counter,
            Kind.AMOUNT: meter.create_observable_up_down_counter,
            Kind.STATE: meter.create_observable_gauge,
        }[number.kind]
        create(name, [observe], number.unit, number.help)

    def _observe_gauge(self, meter: Meter, gauge: Gauge) -> None:
        def observe(options: CallbackOptions) -> Iterable[Observation]:
            now, before = self._read(gauge.name)
            for entry, metrics in now.items():
                earlier = before[entry].timings if entry in before else None
                timings = _since(metrics.timings, earlier)
                value = None if timings is None else gauge.read(timings)
                if value is not None:
                    yield Observation(value, {LOOP_NAME: entry.name})

        meter.create_observable_gauge(gauge.name, [observe], gauge.unit, gauge.description)

    def _read(
        self, instrument: str
    ) -> tuple[dict[Registered, LoopMetrics], dict[Registered, LoopMetrics]]:
        """Returns the numbers of this collection and of the one before."""
        with self._lock:
            if not self._observed or instrument in self._observed:
                self._before, self._now = self._now, self.loops.read()
                self._observed.clear()
            self._observed.add(instrument)
            return self._now, self._before


def _since(now: Timings | None, earlier: Timings | None) -> Timings | None:
    """The timings since an earlier reading; all of them if they were begun anew."""
    if now is None or earlier is None:
        return now
    pairs = zip(now.callback.counts, earlier.callback.counts, strict=True)
    if any(count < before for count, before in pairs):
        return now
    return Timings(
        now.lag.since(earlier.lag),
        now.callback.since(earlier.callback),
        now.polling_seconds - earlier.polling_seconds,
        now.sleeping_seconds - earlier.sleeping_seconds,
    )


_lock = ForkedLock()
_exporters: weakref.WeakKeyDictionary[MeterProvider, Exporter] = weakref.WeakKeyDictionary()
