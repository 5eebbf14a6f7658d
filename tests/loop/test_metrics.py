"""loop.metrics(): what is counted, and what is measured once start_metrics() was called."""

import asyncio
import bisect
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aiopoll
from aiopoll.loop.backend import requested_metrics
from aiopoll.loop.monitor.meter import BOUNDS

# Reads times, and prints of each its bucket and what it adds to the sum.
PROGRAM = """
#include <stdio.h>
#include "histogram.h"

int main(void)
{
	long time_ns;

	while (scanf("%ld", &time_ns) == 1) {
		struct histogram histogram = {0};
		int bucket = 0;

		histogram_add(&histogram, time_ns);
		while (!histogram.counts[bucket])
			bucket++;
		printf("%d %ld\\n", bucket, (long)histogram.sum_ns);
	}
	return 0;
}
"""


@pytest.fixture(params=["aio", "epoll", "auto"])
def loop(request: Any) -> Iterator[aiopoll.EventLoop]:
    loop = aiopoll.new_event_loop(backend=request.param)
    yield loop
    loop.close()


def measured(loop: aiopoll.EventLoop) -> aiopoll.Timings:
    timings = loop.metrics().timings
    assert timings is not None
    return timings


def above(histogram: aiopoll.Histogram, bound: float) -> int:
    """How many times are in buckets above a bound."""
    return sum(histogram.counts[histogram.bounds.index(bound) + 1 :])


def test_nothing_is_measured_unless_asked(loop: aiopoll.EventLoop) -> None:
    loop.run_until_complete(asyncio.sleep(0))
    metrics = loop.metrics()
    assert metrics.timings is None
    assert metrics.callbacks > 0
    assert metrics.iterations > 0
    loop.stop_metrics()


def test_each_callback_is_in_both_histograms(loop: aiopoll.EventLoop) -> None:
    loop.start_metrics()
    before = loop.metrics().callbacks
    for _ in range(500):
        loop.call_soon(lambda: None)
    loop.run_until_complete(asyncio.sleep(0))
    count = loop.metrics().callbacks - before
    assert count >= 500
    assert measured(loop).callback.count == measured(loop).lag.count == count


def test_a_long_callback_makes_others_wait(loop: aiopoll.EventLoop) -> None:
    async def main() -> None:
        loop.call_soon(time.sleep, 0.06)
        for _ in range(3):
            loop.call_soon(lambda: None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.start_metrics()
    loop.run_until_complete(main())
    timings = measured(loop)
    assert above(timings.callback, 0.05) >= 1
    assert above(timings.lag, 0.05) >= 3  # the three, and the task's next step
    assert timings.callbacks_seconds >= 0.06
    assert timings.utilization > 0


def test_what_is_queued_late_did_not_wait(loop: aiopoll.EventLoop) -> None:
    def block() -> None:
        time.sleep(0.06)
        loop.call_soon(loop.stop)

    loop.start_metrics()
    loop.call_soon(block)
    loop.run_forever()
    assert above(measured(loop).callback, 0.05) == 1
    assert measured(loop).lag.sum < 0.06


def test_a_timer_waits_from_its_deadline(loop: aiopoll.EventLoop) -> None:
    loop.start_metrics()
    loop.call_later(0.01, loop.stop)
    loop.call_soon(time.sleep, 0.08)
    loop.run_forever()
    assert above(measured(loop).lag, 0.05) == 1


def test_a_deadline_long_past_is_no_lag(loop: aiopoll.EventLoop) -> None:
    loop.start_metrics()
    loop.call_at(0, loop.stop)
    loop.run_forever()
    assert measured(loop).lag.sum < 10


def test_sleep_is_apart_from_work(loop: aiopoll.EventLoop) -> None:
    loop.start_metrics()
    loop.run_until_complete(asyncio.sleep(0.1))
    timings = measured(loop)
    assert timings.sleeping_seconds > 0.08
    assert timings.polling_seconds < timings.sleeping_seconds


def test_time_between_runs_is_left_out(loop: aiopoll.EventLoop) -> None:
    loop.start_metrics()
    time.sleep(0.1)
    loop.run_until_complete(asyncio.sleep(0))
    timings = measured(loop)
    whole = timings.polling_seconds + timings.sleeping_seconds + timings.callbacks_seconds
    assert whole < 0.1


def test_measuring_starts_and_stops_in_a_callback(loop: aiopoll.EventLoop) -> None:
    async def main() -> None:
        for _ in range(300):
            loop.call_soon(lambda: None)
        loop.start_metrics()
        loop.start_metrics()
        await asyncio.sleep(0)
        assert measured(loop).callback.count >= 300
        for _ in range(300):
            loop.call_soon(lambda: None)
        loop.stop_metrics()
        loop.stop_metrics()
        await asyncio.sleep(0.001)
        assert loop.metrics().timings is None
        loop.start_metrics()
        await asyncio.sleep(0.001)
        assert 0 < measured(loop).callback.count < 300

    loop.run_until_complete(main())


def test_a_queue_that_grows_keeps_the_times(loop: aiopoll.EventLoop) -> None:
    loop.start_metrics()
    for _ in range(50):
        loop.call_soon(lambda: None)
    time.sleep(0.02)
    for _ in range(5000):
        loop.call_soon(lambda: None)
    loop.run_until_complete(asyncio.sleep(0))
    assert above(measured(loop).lag, 0.01) >= 50


def test_a_queue_put_in_its_place_is_measured(loop: aiopoll.EventLoop) -> None:
    loop.start_metrics()
    loop._ready = type(loop._ready)()
    loop.call_soon(lambda: None)
    loop.run_until_complete(asyncio.sleep(0))
    assert measured(loop).lag.sum < 5


def test_each_time_is_in_its_bucket(compiled: Callable[[str], Callable[[str], str]]) -> None:
    bounds = [round(bound * 1e9) for bound in BOUNDS]
    near = [time_ns + by for time_ns in [*bounds, *(2**k for k in range(63))] for by in (-1, 0, 1)]
    times = [-(2**63), -1, 0, 2**63 - 1, *near]
    output = compiled(PROGRAM)("".join(f"{time_ns}\n" for time_ns in times))
    expected = [(bisect.bisect_left(bounds, time_ns), max(time_ns, 0)) for time_ns in times]
    assert [tuple(map(int, line.split())) for line in output.splitlines()] == expected


def test_exceptions_end_callbacks_too(loop: aiopoll.EventLoop) -> None:
    def fail() -> None:
        raise ValueError

    loop.set_exception_handler(lambda loop, context: None)
    loop.start_metrics()
    loop.call_soon(fail)
    loop.call_soon(exec, "raise SystemExit")
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert measured(loop).callback.count == 2


def test_debug_mode_is_measured_too(loop: aiopoll.EventLoop) -> None:
    loop.set_debug(True)
    loop.start_metrics()
    loop.call_soon(lambda: None)
    loop.run_until_complete(asyncio.sleep(0))
    assert measured(loop).callback.count >= 2


def test_bytes_and_connections_are_counted(loop: aiopoll.EventLoop) -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(1000))
            await reader.read()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"x" * 1000)
            assert len(await reader.readexactly(1000)) == 1000
            assert loop.metrics().connections >= 2
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.01)

    before = loop.metrics()
    loop.run_until_complete(main())
    after = loop.metrics()
    assert after.bytes_received - before.bytes_received == 2000
    assert after.bytes_sent - before.bytes_sent == 2000
    assert after.connections_made - before.connections_made == 2
    assert after.tasks_created - before.tasks_created >= 2
    assert after.tasks == 0


def test_large_writes_are_counted_once(loop: aiopoll.EventLoop) -> None:
    size = 3_000_000

    async def main() -> None:
        left, right = socket.socketpair()
        _reader, writer = await asyncio.open_connection(sock=left)
        other_reader, other_writer = await asyncio.open_connection(sock=right)
        writer.write(b"x" * size)
        assert len(await other_reader.readexactly(size)) == size
        writer.close()
        other_writer.close()

    loop.run_until_complete(main())
    assert (loop.metrics().bytes_received, loop.metrics().bytes_sent) == (size, size)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_sock_methods_count_their_bytes(loop: aiopoll.EventLoop, kind: socket.SocketKind) -> None:
    async def main() -> None:
        left, right = socket.socketpair(socket.AF_UNIX, kind)
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            await loop.sock_sendall(left, b"12345")
            assert await loop.sock_recv(right, 100) == b"12345"
            await loop.sock_sendall(left, b"678")
            assert await loop.sock_recv_into(right, bytearray(10)) == 3

    loop.run_until_complete(main())
    assert (loop.metrics().bytes_received, loop.metrics().bytes_sent) == (8, 8)


def test_datagrams_and_pipes_count_their_bytes(loop: aiopoll.EventLoop, tmp_path: Path) -> None:
    class Receiver(asyncio.DatagramProtocol, asyncio.Protocol):
        def __init__(self) -> None:
            self.size = 0

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.size += len(data)

        def data_received(self, data: bytes) -> None:
            self.size += len(data)

    async def main() -> None:
        ours, address = await loop.create_datagram_endpoint(Receiver, ("127.0.0.1", 0))
        theirs, _ = await loop.create_datagram_endpoint(
            Receiver, remote_addr=ours.get_extra_info("sockname")
        )
        for _ in range(5):
            theirs.sendto(b"0123456789")
        while address.size < 50:
            await asyncio.sleep(0.001)
        ours.close()
        theirs.close()
        read_end, write_end = socket.socketpair()
        reading, received = await loop.connect_read_pipe(Receiver, read_end)
        writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, write_end)
        writing.write(b"abc")
        while received.size < 3:
            await asyncio.sleep(0.001)
        reading.close()
        writing.close()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert (loop.metrics().bytes_received, loop.metrics().bytes_sent) == (53, 53)


def test_the_thread_pool_and_files_are_there(loop: aiopoll.EventLoop, tmp_path: Path) -> None:
    async def main() -> None:
        assert loop.metrics().thread_pool is None
        assert loop.metrics().files is None
        await asyncio.to_thread(lambda: None)
        pool = loop.metrics().thread_pool
        assert pool is not None
        assert pool.threads == 1
        assert pool.queued == 0
        assert pool.limit > 1
        await aiopoll.write_bytes(tmp_path / "file", b"data")
        files = loop.metrics().files
        assert files is not None
        assert files.thread_calls >= 1
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


def test_other_threads_may_ask(loop: aiopoll.EventLoop) -> None:
    read: list[aiopoll.LoopMetrics] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            read.append(loop.metrics())

    async def main() -> None:
        thread = threading.Thread(target=ask)
        thread.start()
        while len(read) < 50:
            await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(20)))
        done.set()
        thread.join()

    loop.start_metrics()
    loop.run_until_complete(main())
    assert [m.callbacks for m in read] == sorted(m.callbacks for m in read)


def test_a_closed_loop_has_no_metrics() -> None:
    loop = aiopoll.new_event_loop(metrics=True)
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.metrics()
    with pytest.raises(RuntimeError, match="closed"):
        loop.start_metrics()
    loop.stop_metrics()


@pytest.mark.parametrize(
    ("given", "variable", "wanted"),
    [
        (None, None, False),
        (None, "", False),
        (None, "0", False),
        (None, "1", True),
        (False, "1", False),
        (True, "0", True),
    ],
)
def test_the_environment_can_ask_for_it(
    monkeypatch: pytest.MonkeyPatch, given: bool | None, variable: str | None, wanted: bool
) -> None:
    if variable is not None:
        monkeypatch.setenv("AIOPOLL_METRICS", variable)
    assert requested_metrics(given) is wanted


def test_another_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPOLL_METRICS", "yes")
    with pytest.raises(ValueError, match="AIOPOLL_METRICS must be 0 or 1, not 'yes'"):
        aiopoll.new_event_loop()


def test_quantiles_are_bounds_of_buckets() -> None:
    histogram = aiopoll.Histogram((0.1, 1.0), (6, 3, 1), 5.0)
    assert histogram.count == 10
    quantiles = [histogram.quantile(q) for q in (0, 0.5, 0.6, 0.61, 0.9, 0.91, 1)]
    assert quantiles == [0.1, 0.1, 0.1, 1.0, 1.0, float("inf"), float("inf")]
    assert aiopoll.Histogram((0.1,), (0, 0), 0.0).quantile(0.5) == 0.0
    with pytest.raises(ValueError, match="from 0 to 1"):
        histogram.quantile(1.5)


def test_a_later_reading_less_an_earlier_one() -> None:
    earlier = aiopoll.Histogram((0.1,), (1, 2), 3.0)
    later = aiopoll.Histogram((0.1,), (4, 2), 4.0)
    assert later.since(earlier) == aiopoll.Histogram((0.1,), (3, 0), 1.0)
    assert later.since(None) is later
