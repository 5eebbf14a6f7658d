"""What the page of the site draws: the loop's metrics as rates, four times a second."""

import asyncio
import json
import os
import time
from typing import Any

from aiohttp import web

import aiopoll

PERIOD_S = 0.25
KEPT = 4
"""Periods that the quantiles of requests are taken of: one second."""
TIMES_MAX = 2000
"""Times of requests that are kept of a period: the first ones, for sorting takes time."""

Sample = dict[str, object]


def quantile_ms(times: list[float], fraction: float) -> float:
    """Returns a quantile of sorted times in seconds, as milliseconds; 0 of none."""
    return 1000 * times[min(len(times) - 1, int(fraction * len(times)))] if times else 0.0


class Live:
    """Samples the running loop for those that listen, and only while some do."""

    def __init__(self) -> None:
        self.listeners: set[asyncio.Queue[Sample | None]] = set()
        self.requests = 0
        self.times: list[float] = []
        self.kept: list[list[float]] = []
        self.sampler: asyncio.Task[None] | None = None

    @web.middleware
    async def count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Counts each request and takes its time, but for the endless one of listen()."""
        if request.path == "/live":
            streamed: web.StreamResponse = await handler(request)
            return streamed
        begun = time.perf_counter()
        try:
            response: web.StreamResponse = await handler(request)
            return response
        finally:
            self.requests += 1
            if len(self.times) < TIMES_MAX:
                self.times.append(time.perf_counter() - begun)

    async def listen(self, request: web.Request) -> web.StreamResponse:
        """Streams a sample for each period, as server-sent events."""
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        queue: asyncio.Queue[Sample | None] = asyncio.Queue()
        self.listeners.add(queue)
        if self.sampler is None or self.sampler.done():
            self.sampler = asyncio.create_task(self.sample(), name="samples of the page")
        try:
            while (sample := await queue.get()) is not None:
                await response.write(f"data: {json.dumps(sample)}\n\n".encode())
            return response
        except ConnectionResetError:
            return response
        finally:
            self.listeners.discard(queue)

    async def close(self, app: web.Application) -> None:
        """Ends the streams with the site, which would wait for them else."""
        for queue in self.listeners:
            queue.put_nowait(None)
        if self.sampler is not None:
            self.sampler.cancel()

    async def sample(self) -> None:
        loop = asyncio.get_running_loop()
        ours = loop if isinstance(loop, aiopoll.EventLoop) else None
        if ours is not None:
            ours.start_metrics()
        before = ours.metrics() if ours is not None else None
        at, requests = time.monotonic(), self.requests
        while self.listeners:
            await asyncio.sleep(PERIOD_S)
            now = time.monotonic()
            sample: Sample = {"pid": os.getpid(), "loop": type(loop).__name__}
            sample["requests"] = (self.requests - requests) / (now - at)
            sample |= self.latency()
            if ours is not None and before is not None:
                after = ours.metrics()
                sample |= rates(before, after, now - at)
                before = after
            at, requests = now, self.requests
            for queue in self.listeners:
                queue.put_nowait(sample)
        if ours is not None:
            ours.stop_metrics()

    def latency(self) -> Sample:
        """The quantiles of the last second's requests."""
        self.kept = [*self.kept[1 - KEPT :], self.times]
        self.times = []
        times = sorted(duration for period in self.kept for duration in period)
        return {
            "request_p50_ms": quantile_ms(times, 0.5),
            "request_p99_ms": quantile_ms(times, 0.99),
        }


def rates(before: aiopoll.LoopMetrics, after: aiopoll.LoopMetrics, seconds: float) -> Sample:
    """What has happened between two readings of the metrics, by the second."""
    sample: Sample = {"backend": after.reactor.backend, "counters": counters(after)}
    for name in (
        "submitted",
        "completed",
        "ring_reaps",
        "getevents_calls",
        "submit_calls",
        "sleeps",
    ):
        change = getattr(after.reactor, name) - getattr(before.reactor, name)
        sample[name] = change / seconds
    iterations = after.iterations - before.iterations
    sample["callbacks_per_iteration"] = (after.callbacks - before.callbacks) / max(1, iterations)
    sample["connections"] = after.connections
    sample["tasks"] = after.tasks
    sample["waits_on"] = "epoll set" if after.reactor.uses_set else "ring"
    if after.reactor.backend == "epoll":
        sample["waits_on"] = "epoll"
    for route, names in ROUTES.items():
        sample[route] = sum(file_count(after, n) - file_count(before, n) for n in names) / seconds
    if before.timings is not None and after.timings is not None:
        lag = after.timings.lag.since(before.timings.lag)
        sample["lag_p99_ms"] = 1000 * min(lag.quantile(0.99), 10.0)
        parts = {
            "callbacks_percent": after.timings.callbacks_seconds - before.timings.callbacks_seconds,
            "polling_percent": after.timings.polling_seconds - before.timings.polling_seconds,
            "sleeping_percent": after.timings.sleeping_seconds - before.timings.sleeping_seconds,
        }
        whole = sum(parts.values()) or 1.0
        sample |= {name: 100 * part / whole for name, part in parts.items()}
    return sample


def counters(metrics: aiopoll.LoopMetrics) -> Sample:
    """All numbers that are no histogram: docs/reference/metrics.md has what each one counts."""
    parts: dict[str, Any] = {"": metrics, "reactor.": metrics.reactor, "files.": metrics.files}
    parts["thread_pool."] = metrics.thread_pool
    return {
        prefix + name: value
        for prefix, part in parts.items()
        if part is not None
        for name, value in part._asdict().items()
        if isinstance(value, (bool, int, float, str))
    }


COUNTERS = (
    *("submitted", "completed", "ring_reaps", "getevents_calls"),
    *("submit_calls", "sleeps"),
)
ROUTES = {
    "file_ring": ("aio_reads", "aio_writes", "aio_syncs"),
    "file_inline": ("inline_reads",),
    "file_threads": ("thread_reads", "thread_writes", "thread_syncs", "thread_calls"),
}


def file_count(metrics: aiopoll.LoopMetrics, name: str) -> int:
    return int(getattr(metrics.files, name, 0))
