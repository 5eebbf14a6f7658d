"""A loop that has served thousands of connections holds no more than before."""

import asyncio
import contextlib
import ctypes
import gc
import os
import random
import socket
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.descriptors import open_count

import aiopoll
from aiopoll.aio import context_cache as context_pool

from .counts import MANY_SLOTS, rings

CONNECTS = 10_000
SECONDS_MAX = 30
BATCH = 50


class Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def c_heap() -> int:
    """Bytes allocated by malloc(3): records and buffers in C, which Python does not count.

    Always 0 where the C library has no such count (before glibc 2.33, and under ASan).
    """
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0
    mallinfo2.restype = Mallinfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


class Held:
    """The resources of the process at a moment."""

    def __init__(self, loop: aiopoll.EventLoop) -> None:
        for _ in range(3):
            gc.collect()
        self.descriptors = open_count()
        self.tasks = len(asyncio.all_tasks(loop))
        statistics = loop.statistics()
        self.watched, self.in_flight = statistics.watched, statistics.in_flight
        self.objects = len(gc.get_objects())
        self.blocks = sys.getallocatedblocks()
        self.c_heap = c_heap()

    def compare(self, before: "Held", rounds: int) -> None:
        """Raises if anything has grown with the rounds."""
        assert self.descriptors == before.descriptors
        assert self.tasks == before.tasks
        assert self.watched == before.watched
        assert self.in_flight <= max(before.in_flight, 2)  # the epoll set's and the wake-up's
        few = max(rounds / 10, 200)
        assert self.objects - before.objects < few
        assert self.blocks - before.blocks < few
        # Python's own arenas are not in it, but large lists and dictionaries are.
        assert self.c_heap - before.c_heap < max(10 * rounds, 64 * 1024)


class Echo(asyncio.Protocol):
    open = 0

    def connection_made(self, transport: Any) -> None:
        Echo.open += 1
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        Echo.open -= 1


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport: Any) -> None:
        Echo.open += 1
        self.buffer = bytearray(4096)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(self.buffer[:nbytes])

    def connection_lost(self, exc: Exception | None) -> None:
        Echo.open -= 1


async def one_connection(address: tuple[str, int], kind: int) -> None:
    """Seven ways for a connection to go."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"x" * 100)
    if kind in (0, 1):
        assert await reader.readexactly(100) == b"x" * 100
    elif kind in (2, 3):
        task = asyncio.ensure_future(reader.read(100))
        await asyncio.sleep(0)
        task.cancel()
    elif kind == 4:
        writer.write(bytes(1 << 20))
        task = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0)
        task.cancel()
        writer.transport.abort()
    elif kind == 5:
        linger = struct.pack("ii", 1, 0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    elif kind == 6:
        writer.write_eof()
        await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def cancelled_connect(address: tuple[str, int]) -> None:
    task = asyncio.ensure_future(asyncio.open_connection(*address))
    for _ in range(random.randrange(4)):
        await asyncio.sleep(0)
    task.cancel()
    try:
        _, writer = await task
        writer.close()
    except asyncio.CancelledError:
        pass


async def refused_connect() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*nobody.getsockname())


async def all_closed(loop: aiopoll.EventLoop, watched: int) -> None:
    while Echo.open or loop.statistics().watched > watched or len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


async def all_come_back(loop: aiopoll.EventLoop, before: Held) -> None:
    """Waits for cancelled requests, whose events a kernel worker delivers some time later."""
    async with asyncio.timeout(SECONDS_MAX):
        while loop.statistics().in_flight > before.in_flight:
            await asyncio.sleep(0)


@pytest.fixture
def loop(loop_options: dict[str, Any]) -> Iterator[aiopoll.EventLoop]:
    if loop_options == {"backend": "aio"}:
        loop_options = {"backend": "aio", "nr_events": MANY_SLOTS}
    context_pool.release()
    before = rings(), open_count()
    loop = aiopoll.new_event_loop(**loop_options)
    yield loop
    loop.close()
    context_pool.release()
    assert (rings(), open_count()) == before


@pytest.mark.soak
def test_ten_thousand_connects(loop: aiopoll.EventLoop, soak: Callable[[int], int]) -> None:
    connects = soak(CONNECTS)

    async def scenario() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)
        buffered = await loop.create_server(BufferedEcho, "127.0.0.1", 0, backlog=1024)
        addresses = [each.sockets[0].getsockname() for each in (server, buffered)]
        watched = loop.statistics().watched

        async def batch(number: int) -> None:
            at = [addresses[number % 2]]
            kinds = (one_connection(*at, kind % 7) for kind in range(BATCH))
            await asyncio.gather(cancelled_connect(*at), refused_connect(), *kinds)
            await all_closed(loop, watched)

        for number in range(20):  # growth that comes once
            await batch(number)
        before = Held(loop)
        for number in range(connects // BATCH):
            await batch(number)
        await all_come_back(loop, before)
        Held(loop).compare(before, connects)
        server.close()
        buffered.close()
        await server.wait_closed()

    loop.run_until_complete(scenario())


def test_memory_allocated_by_python_is_released(loop: aiopoll.EventLoop, tmp_path: Path) -> None:
    """By tracemalloc, which is too slow for ten thousand; Unix sockets, datagrams and pipes."""
    path = str(tmp_path / "server")

    async def datagrams() -> None:
        here, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        there, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=here.get_extra_info("sockname")
        )
        there.sendto(b"x")
        await asyncio.sleep(0)
        here.close()
        there.abort()

    async def pipes() -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        reading, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(reader, "rb", 0))
        writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writer, "wb", 0))
        writing.write(b"x")
        await asyncio.sleep(0)
        writing.close()
        reading.close()

    async def unix() -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x")
        await reader.readexactly(1)
        writer.close()
        await writer.wait_closed()

    async def scenario() -> None:
        server = await loop.create_unix_server(Echo, path)
        watched = loop.statistics().watched

        async def batch() -> None:
            await asyncio.gather(*([datagrams(), pipes(), unix()] * 4))
            await all_closed(loop, watched)

        for _ in range(10):
            await batch()
        before = Held(loop)
        tracemalloc.start()
        try:
            await batch()
            gc.collect()
            size_before, _ = tracemalloc.get_traced_memory()
            for _ in range(50):
                await batch()
            gc.collect()
            size_after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size_after - size_before < 50 * 12 * 10  # ten bytes each would be a leak
        await all_come_back(loop, before)
        Held(loop).compare(before, 50 * 12 * 3)
        server.close()

    loop.run_until_complete(scenario())


def test_servers_come_and_go(loop: aiopoll.EventLoop) -> None:
    """Each with a connection that is still open when it closes."""

    async def one() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(
            asyncio.Protocol, *server.sockets[0].getsockname()
        )
        while not Echo.open:
            await asyncio.sleep(0)
        server.close()
        transport.abort()
        await all_closed(loop, watched)

    watched = loop.statistics().watched
    for _ in range(20):
        loop.run_until_complete(one())
    before = Held(loop)
    for _ in range(300):
        loop.run_until_complete(one())
    loop.run_until_complete(all_come_back(loop, before))
    Held(loop).compare(before, 300)


@pytest.mark.soak
@pytest.mark.parametrize("order", ["first to last", "last to first", "at random", "by the loop"])
def test_timers_by_the_million(
    loop_options: dict[str, Any], order: str, soak: Callable[[int], int]
) -> None:
    """200,000 at once, five times; they are cancelled, or run and then forgotten."""
    at_once, rounds = (200_000, soak(5)) if order == "first to last" else (50_000, soak(1))
    ran = [0]

    def fire() -> None:
        ran[0] += 1

    def round_(loop: aiopoll.EventLoop, count: int) -> None:
        delay = 0.0 if order == "by the loop" else 3600.0
        handles = [loop.call_later(delay + i % 7, fire) for i in range(count)]
        if order == "by the loop":
            for handle in handles:
                if handle.when() > loop.time() + 0.5:
                    handle.cancel()
            expected = ran[0] + sum(not handle.cancelled() for handle in handles)
            while ran[0] < expected:
                turn(loop)
        else:
            if order == "last to first":
                handles.reverse()
            elif order == "at random":
                random.Random(count).shuffle(handles)
            for handle in handles:
                handle.cancel()
        del handles
        turn(loop)

    def turn(loop: aiopoll.EventLoop) -> None:
        loop.call_soon(loop.stop)
        loop.run_forever()

    loop = aiopoll.new_event_loop(**loop_options)
    try:
        round_(loop, 2000)
        before = Held(loop)
        for _ in range(rounds):
            round_(loop, at_once)
        after = Held(loop)
        assert after.blocks - before.blocks < 1000
        assert after.objects - before.objects < 200
        # A cancelled timer may stay until there are more of them than of the others, not longer.
        assert after.c_heap - before.c_heap < 512 * 1024
        assert bool(ran[0]) == (order == "by the loop")
    finally:
        loop.close()
