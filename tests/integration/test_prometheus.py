"""aiopoll.prometheus: what a registry shows of loops, and of which."""

import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

import aiopoll
import aiopoll.prometheus


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


@pytest.fixture
def loop() -> Iterator[aiopoll.EventLoop]:
    loop = aiopoll.new_event_loop()
    yield loop
    loop.close()


def samples(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """The number of each series, by its name and the values of its labels, sorted by label."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def names(registry: CollectorRegistry) -> set[str]:
    return {key[1] for key in samples(registry) if key[0] == "aiopoll_tasks"}


async def work() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1000))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x" * 1000)
        await reader.read()
        writer.close()
        await writer.wait_closed()
    await asyncio.to_thread(lambda: None)


def test_numbers_are_those_of_the_loop(
    loop: aiopoll.EventLoop, registry: CollectorRegistry
) -> None:
    assert aiopoll.prometheus.register(loop, registry=registry) == "main"
    loop.run_until_complete(work())
    metrics = loop.metrics()
    shown = samples(registry)
    timings = metrics.timings
    assert timings is not None
    assert shown["aiopoll_iterations_total", "main"] == metrics.iterations > 0
    assert shown["aiopoll_received_bytes_total", "main"] == metrics.bytes_received == 2000
    assert shown["aiopoll_watched_files", "main"] == metrics.reactor.watched
    assert shown["aiopoll_thread_pool_threads", "main"] == 1
    submits = shown["aiopoll_system_calls_total", "io_submit", "main"]
    assert submits == metrics.reactor.submit_calls > 0
    states = {
        state: shown["aiopoll_loop_time_seconds_total", "main", state]
        for state in ("active", "polling", "idle")
    }
    assert states["active"] == timings.callbacks_seconds
    assert states["polling"] == timings.polling_seconds
    assert states["idle"] == timings.sleeping_seconds
    assert ("aiopoll_file_requests_blocked_total", "main") not in shown


@pytest.mark.parametrize("field", ["lag", "callback"])
def test_buckets_are_cumulative(
    field: str, loop: aiopoll.EventLoop, registry: CollectorRegistry
) -> None:
    aiopoll.prometheus.register(loop, registry=registry)
    loop.run_until_complete(work())
    timings = loop.metrics().timings
    assert timings is not None
    times: aiopoll.Histogram = getattr(timings, field)
    name = aiopoll.prometheus.HISTOGRAMS[field][0]
    shown = samples(registry)
    buckets = {float(key[1]): n for key, n in shown.items() if key[0] == f"{name}_bucket"}
    assert list(buckets) == [*times.bounds, float("inf")]
    for bound, count in buckets.items():
        counted = zip((*times.bounds, float("inf")), times.counts, strict=True)
        assert count == sum(n for upper, n in counted if upper <= bound)
    assert shown[f"{name}_count", "main"] == times.count > 0
    assert shown[f"{name}_sum", "main"] == pytest.approx(times.sum)


def test_files_are_shown_by_route(loop: aiopoll.EventLoop, registry: CollectorRegistry) -> None:
    aiopoll.prometheus.register(loop, registry=registry)
    loop.run_until_complete(aiopoll.read_bytes(__file__))
    shown = samples(registry)
    assert shown["aiopoll_file_requests_total", "main", "other", "thread"] >= 1
    assert shown["aiopoll_file_requests_total", "main", "read", "ring"] == 0


def test_a_closed_or_collected_loop_vanishes(registry: CollectorRegistry) -> None:
    closed, collected = aiopoll.new_event_loop(), aiopoll.new_event_loop()
    for name, loop in {"closed": closed, "collected": collected}.items():
        aiopoll.prometheus.register(loop, name=name, registry=registry)
    assert names(registry) == {"closed", "collected"}
    closed.close()
    assert names(registry) == {"collected"}
    del collected, loop  # a cycle has it
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    assert names(registry) == set()


def test_a_loop_that_closes_in_between_is_left_out(
    loop: aiopoll.EventLoop, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closing(aiopoll.EventLoop):
        def metrics(self) -> Any:
            self.close()
            return super().metrics()

    closing = Closing()
    aiopoll.prometheus.register(closing, name="closing", registry=registry)
    aiopoll.prometheus.register(loop, name="open", registry=registry)
    assert names(registry) == {"open"}
    assert closing.is_closed()


def test_an_error_of_an_open_loop_is_raised(registry: CollectorRegistry) -> None:
    class Failing(aiopoll.EventLoop):
        def metrics(self) -> Any:
            raise RuntimeError("no numbers")

    failing = Failing()
    aiopoll.prometheus.register(failing, registry=registry)
    with pytest.raises(RuntimeError, match="no numbers"):
        samples(registry)
    failing.close()


def test_no_two_loops_have_a_name(registry: CollectorRegistry) -> None:
    first, second, third = (aiopoll.new_event_loop() for _ in range(3))
    register = aiopoll.prometheus.register
    assert register(first, registry=registry) == "main"
    assert register(second, registry=registry) == "main-2"
    assert register(second, registry=registry) == "main-2"
    with pytest.raises(ValueError, match="another loop has the name 'main'"):
        register(third, name="main", registry=registry)
    assert register(second, name="other", registry=registry) == "other"
    first.close()
    assert register(third, registry=registry) == "main"
    assert names(registry) == {"main", "other"}
    aiopoll.prometheus.unregister(third, registry=registry)
    aiopoll.prometheus.unregister(third, registry=registry)
    assert names(registry) == {"other"}
    second.close()
    third.close()


@pytest.mark.parametrize(
    ("thread", "label"),
    [
        ("worker-3", "worker-3"),
        ("Thread-17 (serve)", "Thread (serve)"),
        ("ThreadPoolExecutor-5_0", "ThreadPoolExecutor"),
    ],
)
def test_a_thread_names_its_loop(thread: str, label: str, registry: CollectorRegistry) -> None:
    found: list[Any] = []

    async def main() -> None:
        found.append(aiopoll.prometheus.register(registry=registry))
        found.append(names(registry))

    running = threading.Thread(target=lambda: aiopoll.run(main()), name=thread)
    running.start()
    running.join()
    assert found == [label, {label}]


def test_another_thread_can_register_a_loop(
    loop: aiopoll.EventLoop, registry: CollectorRegistry
) -> None:
    running = threading.Thread(target=loop.run_forever, name="server")
    running.start()
    while not loop.is_running():
        pass
    assert aiopoll.prometheus.register(loop, registry=registry) == "server"
    while loop.metrics().timings is None:
        pass
    loop.call_soon_threadsafe(loop.stop)
    running.join()


def test_a_forked_child_shows_none(loop: aiopoll.EventLoop, registry: CollectorRegistry) -> None:
    aiopoll.prometheus.register(loop, registry=registry)
    aiopoll.prometheus._lock.__enter__()  # as by another thread
    try:
        child = os.fork()
        if not child:
            try:
                own = aiopoll.new_event_loop()
                same = aiopoll.prometheus.register(own, registry=registry) == "main"
                os._exit(0 if same and names(registry) == {"main"} else 1)
            finally:
                os._exit(2)
    finally:
        aiopoll.prometheus._lock.__exit__()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_cannot_be_registered_is_refused(registry: CollectorRegistry) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        aiopoll.prometheus.register(registry=registry)
    other: Any = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match="has no metrics: run the program on"):
        aiopoll.prometheus.register(other, registry=registry)
    other.close()
    closed = aiopoll.new_event_loop()
    closed.close()
    with pytest.raises(RuntimeError, match="closed"):
        aiopoll.prometheus.register(closed, registry=registry)


def test_scrapes_while_loops_come_and_go(registry: CollectorRegistry) -> None:
    done = threading.Event()
    errors: list[BaseException] = []

    def scrape() -> None:
        try:
            while not done.is_set():
                generate_latest(registry)
        except BaseException as error:
            errors.append(error)

    async def main() -> None:
        aiopoll.prometheus.register(registry=registry)
        await asyncio.sleep(0.001)

    thread = threading.Thread(target=scrape)
    thread.start()
    for _ in range(100):
        aiopoll.run(main())
    done.set()
    thread.join()
    assert errors == []
    assert names(registry) == set()


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("module", "library", "fix"),
    [
        ("prometheus", "prometheus_client", "pip install 'aiopoll[prometheus]'"),
        ("otel", "opentelemetry", "pip install 'aiopoll[otel]'"),
    ],
)
def test_a_missing_library_is_named_with_its_fix(module: str, library: str, fix: str) -> None:
    program = f"import sys; sys.modules[{library!r}] = None; import aiopoll.{module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert re.match(rf"ModuleNotFoundError: aiopoll\.{module} needs .*{library}", last)
    assert last.endswith(fix)


def test_openmetrics_parses_it(loop: aiopoll.EventLoop, registry: CollectorRegistry) -> None:
    aiopoll.prometheus.register(loop, name='a "name"\n\\', registry=registry)
    loop.run_until_complete(work())
    text = openmetrics.generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    families: Any = openmetrics_parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    labels = {s.labels["loop"] for family in families for s in family.samples}
    assert labels == {'a "name"\n\\'}


@pytest.mark.subprocess
def test_promtool_has_nothing_to_say(loop: aiopoll.EventLoop, registry: CollectorRegistry) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip(reason="skips.toml: Prometheus")
    aiopoll.prometheus.register(loop, registry=registry)
    loop.run_until_complete(work())
    loop.run_until_complete(aiopoll.read_bytes(__file__))
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=generate_latest(registry),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert (done.returncode, done.stdout) == (0, b"")
