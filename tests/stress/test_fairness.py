"""A connection that is always ready delays no other work: counted in iterations and events.

An iteration may give a busy connection several events, but not without bound.  SHARE is far above
any sensible loop's number, and far below starvation.
"""

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable
from typing import Any

import aiopoll

SHARE = 64
EVENTS = 3000

Pair = tuple[socket.socket, socket.socket]


class Busy(asyncio.Protocol):
    """Is given new data whenever it has read some, so that it is always ready."""

    def __init__(self, peer: socket.socket, events_max: int = EVENTS) -> None:
        self.peer, self.events, self.events_max = peer, 0, events_max

    def connection_made(self, transport: Any) -> None:
        self.peer.send(b"x" * 1000)

    def data_received(self, data: bytes) -> None:
        self.events += 1
        if self.events < self.events_max:
            self.peer.send(b"x" * 1000)


class Waiting(Busy):
    """Busy from its peer's start on."""

    def connection_made(self, transport: Any) -> None:
        pass


class BusyBuffered(asyncio.BufferedProtocol):
    """The same, a byte a time: the rest of the data makes it ready again."""

    def __init__(self, peer: socket.socket, events_max: int = EVENTS) -> None:
        self.peer, self.events, self.events_max = peer, 0, events_max
        self.buffer = bytearray(1)

    def connection_made(self, transport: Any) -> None:
        self.peer.send(b"x" * 1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.events += 1
        if self.events % 500 == 0 and self.events < self.events_max:
            self.peer.send(b"x" * 1000)


def test_call_soon_and_timers_run_between_connection_events(
    loop: aiopoll.EventLoop, stream_pair: Callable[[], Pair]
) -> None:
    async def scenario(kind: Any) -> None:
        ours, theirs = stream_pair()
        transport, busy = await loop.create_connection(lambda: kind(theirs), sock=ours)
        seen: dict[str, list[int]] = {"soon": [], "timer": []}

        def soon() -> None:
            seen["soon"].append(busy.events)
            if busy.events < EVENTS:
                loop.call_soon(soon)

        def timer() -> None:
            seen["timer"].append(busy.events)
            if busy.events < EVENTS:
                loop.call_later(0, timer)

        loop.call_soon(soon)
        loop.call_later(0, timer)
        while busy.events < EVENTS:
            await asyncio.sleep(0)
        transport.close()
        await asyncio.sleep(0)
        for kind_, events in seen.items():
            steps = [b - a for a, b in itertools.pairwise(events)]
            assert steps, kind_
            assert max(steps) <= SHARE, kind_

    loop.run_until_complete(scenario(Busy))
    loop.run_until_complete(scenario(BusyBuffered))


def test_due_timer_runs_though_a_connection_is_always_busy(
    loop: aiopoll.EventLoop, stream_pair: Callable[[], Pair]
) -> None:
    """Nothing but the connection keeps the loop going."""

    async def scenario() -> None:
        ours, theirs = stream_pair()
        transport, busy = await loop.create_connection(lambda: Busy(theirs, 10**9), sock=ours)
        at: list[int] = []
        events = busy.events
        woken = loop.create_future()

        def fire(left: int) -> None:
            at.append(busy.events)
            if left:
                loop.call_at(0, fire, left - 1)  # due long ago
            else:
                woken.set_result(None)

        loop.call_at(0, fire, 20)
        await woken
        transport.abort()
        await asyncio.sleep(0)
        assert busy.events - events <= 22 * SHARE
        assert max(b - a for a, b in itertools.pairwise(at)) <= SHARE

    loop.run_until_complete(scenario())


def test_a_quiet_connection_is_heard_among_busy_ones(
    loop: aiopoll.EventLoop, stream_pair: Callable[[], Pair]
) -> None:
    async def scenario() -> None:
        busy: list[Any] = []
        transports = []
        for _ in range(8):
            ours, theirs = stream_pair()
            transport, protocol = await loop.create_connection(
                lambda theirs=theirs: Busy(theirs, 10**9), sock=ours
            )
            transports.append(transport)
            busy.append(protocol)
        ours, theirs = stream_pair()
        reader, writer = await asyncio.open_connection(sock=ours)
        for _ in range(30):
            before = [each.events for each in busy]
            theirs.send(b"?")
            assert await reader.readexactly(1) == b"?"
            assert all(
                each.events - count <= 4 * SHARE for each, count in zip(busy, before, strict=True)
            )
        for transport in [*transports, writer.transport]:
            transport.abort()
        await asyncio.sleep(0)

    loop.run_until_complete(scenario())


def test_each_of_many_busy_ones_has_its_share(
    loop: aiopoll.EventLoop, stream_pair: Callable[[], Pair]
) -> None:
    """More than the kernel returns at once, and than nr_events=1 has slots for."""
    count, each_gets = 1000, 20

    async def scenario() -> None:
        everyone: list[Any] = []
        transports = []
        for _ in range(count):
            ours, theirs = stream_pair()
            transport, protocol = await loop.create_connection(
                lambda theirs=theirs: Waiting(theirs, 10**9), sock=ours
            )
            transports.append(transport)
            everyone.append(protocol)
        for protocol in everyone:
            protocol.peer.send(b"x")
        while sum(protocol.events for protocol in everyone) < count * each_gets:
            await asyncio.sleep(0)
        got = [protocol.events for protocol in everyone]
        for transport in transports:
            transport.abort()
        await asyncio.sleep(0)
        assert each_gets * 3 // 4 <= min(got) <= max(got) <= each_gets * 3 // 2

    loop.run_until_complete(scenario())


def test_a_listener_and_other_threads_are_not_starved(
    loop: aiopoll.EventLoop, stream_pair: Callable[[], Pair]
) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        transport, busy = await loop.create_connection(lambda: Busy(theirs, 10**9), sock=ours)
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        for _ in range(10):
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.transport.abort()
        called = loop.create_future()
        # The start of the thread has no bound: the test checks only that it gets through.
        thread = threading.Thread(
            target=loop.call_soon_threadsafe, args=(called.set_result, None), daemon=True
        )
        thread.start()
        await called
        thread.join()
        server.close()
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert busy.events > 10

    loop.run_until_complete(scenario())


class Writer(asyncio.Protocol):
    """Writes whenever it may, to a peer that reads as fast as it can."""

    events = 0
    paused = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=0)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.events += 1
        self.paused = False
        while not self.paused:
            self.transport.write(b"x" * 300_000)


def test_connection_that_always_writes_starves_no_other(
    loop: aiopoll.EventLoop, stream_pair: Callable[[], Pair]
) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        transport, writer = await loop.create_connection(Writer, sock=ours)
        loop.add_reader(theirs, theirs.recv, 1 << 20)
        steps, last = [], 0
        writer.resume_writing()
        while writer.events < 200:
            steps.append(writer.events - last)
            last = writer.events
            await asyncio.sleep(0)
        loop.remove_reader(theirs)
        transport.abort()
        await asyncio.sleep(0)
        assert max(steps) <= SHARE

    loop.run_until_complete(scenario())
