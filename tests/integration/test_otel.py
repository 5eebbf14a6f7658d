"""aiopoll.otel: what OpenTelemetry's SDK reads of loops."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import aiopoll
import aiopoll.otel
from aiopoll.loop.monitor.exported import NUMBERS

NAME = "asyncio.eventloop.name"


class Reader:
    """A provider in memory, and what a collection reads."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader])
        self.metrics: dict[str, Any] = {}

    def collect(self) -> dict[tuple[str, ...], float]:
        """Returns the numbers, by name, and the values of the attributes, sorted by attribute."""
        data: Any = self._reader.get_metrics_data()
        scopes = data.resource_metrics[0].scope_metrics if data else []
        self.metrics = {metric.name: metric for scope in scopes for metric in scope.metrics}
        return {
            (metric.name, *(value for _, value in sorted(point.attributes.items()))): point.value
            for metric in self.metrics.values()
            for point in metric.data.data_points
        }


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.provider.shutdown()


@pytest.fixture
def loop() -> Iterator[aiopoll.EventLoop]:
    loop = aiopoll.new_event_loop()
    yield loop
    loop.close()


def test_numbers_are_those_of_the_loop(loop: aiopoll.EventLoop, reader: Reader) -> None:
    assert aiopoll.otel.instrument(loop, meter_provider=reader.provider) == "main"
    loop.run_until_complete(asyncio.sleep(0.01))
    shown = reader.collect()
    metrics = loop.metrics()
    timings = metrics.timings
    assert timings is not None
    assert shown["aiopoll.iterations", "main"] == metrics.iterations > 0
    assert shown["aiopoll.watched_files", "main"] == metrics.reactor.watched
    assert shown["asyncio.eventloop.time", "main", "active"] == timings.callbacks_seconds
    assert shown["asyncio.eventloop.time", "main", "idle"] == timings.sleeping_seconds > 0
    # Sorted by attribute: aiopoll.call is before the loop's name.
    submits = shown["aiopoll.system_calls", "io_submit", "main"]
    assert submits == metrics.reactor.submit_calls > 0
    assert "aiopoll.file.requests" not in reader.metrics


def test_kinds_and_units_follow_the_conventions(loop: aiopoll.EventLoop, reader: Reader) -> None:
    aiopoll.otel.instrument(loop, meter_provider=reader.provider)
    loop.run_until_complete(asyncio.sleep(0))
    reader.collect()
    found = {
        name: (metric.unit, getattr(metric.data, "is_monotonic", None))
        for name, metric in reader.metrics.items()
    }
    assert found["asyncio.eventloop.time"] == ("s", True)
    assert found["asyncio.eventloop.delay.p99"] == ("s", None)
    assert found["asyncio.eventloop.utilization"] == ("1", None)
    assert found["aiopoll.received"] == ("By", True)
    assert found["aiopoll.tasks"] == ("{task}", False)
    assert found["aiopoll.epoll_set.used"] == ("1", None)


def test_no_name_is_a_namespace_of_others() -> None:
    names = [aiopoll.otel.metric_name(number) for number in NUMBERS]
    names += [gauge.name for gauge in aiopoll.otel.GAUGES]
    assert len(names) == len(set(names))
    for name in names:
        assert not [other for other in names if other.startswith(f"{name}.")], name


def test_quantiles_are_of_the_last_interval(loop: aiopoll.EventLoop, reader: Reader) -> None:
    aiopoll.otel.instrument(loop, meter_provider=reader.provider)
    loop.call_soon(time.sleep, 0.06)
    for _ in range(9):
        loop.call_soon(lambda: None)
    loop.run_until_complete(asyncio.sleep(0))
    first = reader.collect()
    assert first["aiopoll.callback.duration.max", "main"] >= 0.1  # the bound above 60 ms
    assert first["asyncio.eventloop.delay.p50", "main"] >= 0.1
    for _ in range(100):
        loop.call_soon(lambda: None)
    loop.run_until_complete(asyncio.sleep(0))
    second = reader.collect()
    timings = loop.metrics().timings
    assert timings is not None
    assert timings.callback.quantile(1) >= 0.1  # since the loop is measured
    assert second["aiopoll.callback.duration.p50", "main"] < 0.1
    assert second["aiopoll.callback.duration.mean", "main"] < 0.06
    assert 0 < second["asyncio.eventloop.utilization", "main"] <= 1


def test_what_has_no_number_is_left_out(loop: aiopoll.EventLoop, reader: Reader) -> None:
    aiopoll.otel.instrument(loop, meter_provider=reader.provider)
    loop.run_until_complete(asyncio.sleep(0))
    reader.collect()
    shown = {key[0] for key in reader.collect()}  # nothing has run since
    assert "aiopoll.iterations" in shown
    assert not shown & {gauge.name for gauge in aiopoll.otel.GAUGES}


def test_times_above_all_bounds_are_the_last_one() -> None:
    timings = aiopoll.Timings(
        aiopoll.Histogram((0.1, 10.0), (0, 0, 1), 12.0),
        aiopoll.Histogram((0.1, 10.0), (0, 0, 0), 0.0),
        *(0.0, 0.0),
    )
    read = {gauge.name: gauge.read(timings) for gauge in aiopoll.otel.GAUGES}
    assert read["asyncio.eventloop.delay.max"] == 10.0
    assert read["asyncio.eventloop.delay.mean"] == 12.0
    assert read["aiopoll.callback.duration.max"] is None


def test_measuring_begun_anew_is_an_interval(loop: aiopoll.EventLoop, reader: Reader) -> None:
    aiopoll.otel.instrument(loop, meter_provider=reader.provider)
    for _ in range(50):
        loop.call_soon(lambda: None)
    loop.run_until_complete(asyncio.sleep(0))
    reader.collect()
    loop.stop_metrics()
    loop.start_metrics()
    loop.call_soon(time.sleep, 0.06)
    loop.run_until_complete(asyncio.sleep(0))
    shown = reader.collect()
    assert shown["aiopoll.callback.duration.max", "main"] >= 0.1
    assert shown["aiopoll.callback.duration.mean", "main"] > 0.001  # a difference is below 0


def test_a_collection_reads_a_loop_once(reader: Reader) -> None:
    class Counting(aiopoll.EventLoop):
        reads = 0

        def metrics(self) -> Any:
            self.reads += 1
            return super().metrics()

    loop = Counting()
    aiopoll.otel.instrument(loop, meter_provider=reader.provider)
    loop.run_until_complete(asyncio.sleep(0))
    for count in (1, 2, 3):
        reader.collect()
        assert loop.reads == count
    loop.close()


def test_a_closed_loop_and_one_taken_out_vanish(loop: aiopoll.EventLoop, reader: Reader) -> None:
    instrument, provider = aiopoll.otel.instrument, reader.provider
    closed = aiopoll.new_event_loop()
    assert instrument(loop, meter_provider=provider) == "main"
    assert instrument(closed, meter_provider=provider) == "main-2"
    assert {key[-1] for key in reader.collect() if key[0] == "aiopoll.tasks"} == {"main", "main-2"}
    closed.close()
    assert {key[-1] for key in reader.collect() if key[0] == "aiopoll.tasks"} == {"main"}
    aiopoll.otel.uninstrument(loop, meter_provider=provider)
    assert reader.collect() == {}


def test_a_new_loop_has_no_part_of_the_old_one(reader: Reader) -> None:
    for blocks in (0.0, 0.06):
        loop = aiopoll.new_event_loop()
        assert aiopoll.otel.instrument(loop, meter_provider=reader.provider) == "main"
        loop.call_soon(time.sleep, blocks)
        loop.run_until_complete(asyncio.sleep(0))
        slowest = reader.collect()["aiopoll.callback.duration.max", "main"]
        loop.close()
    assert slowest >= 0.1


def test_without_a_provider_nothing_is_read() -> None:
    async def main() -> str:
        return aiopoll.otel.instrument()

    assert aiopoll.run(main()) == "main"
    with pytest.raises(RuntimeError, match="no running event loop"):
        aiopoll.otel.instrument()
