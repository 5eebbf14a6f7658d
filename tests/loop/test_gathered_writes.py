"""Writes of a callback leave together where TCP lets the kernel hold them, and nowhere else."""

import array
import asyncio
import fcntl
import select
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tests.support.loops import WAITS, waiting_loop

import aiopoll

SIOCOUTQNSD = 0x894B  # linux/sockios.h
HANG_MS = 10_000  # only a hang takes as long
PIECES = (b"<one>", b"<two>", b"<three>")


class Keeper(asyncio.Protocol):
    """Keeps its transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


Connect = Callable[..., Awaitable[tuple[Any, socket.socket]]]


@pytest.fixture
def connect(loop: aiopoll.EventLoop) -> Iterator[Connect]:
    """Connects; returns a transport and its peer's socket, which is non-blocking."""
    ends: list[Any] = []

    async def connect(
        kind: str, protocol: Callable[[], asyncio.BaseProtocol] = Keeper
    ) -> tuple[Any, socket.socket]:
        transport: Any
        if kind == "unix":
            ours, theirs = socket.socketpair()
            transport, _ = await loop.create_connection(protocol, sock=ours)
        elif kind == "given":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                ours = socket.create_connection(listener.getsockname())
                theirs, _ = listener.accept()
            transport, _ = await loop.create_connection(protocol, sock=ours)
        elif kind == "tcp":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                transport, _ = await loop.create_connection(protocol, *listener.getsockname())
                theirs, _ = listener.accept()
        else:
            made: asyncio.Future[Any] = loop.create_future()

            class Accepted(Keeper):
                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    made.set_result(transport)

            server = await loop.create_server(Accepted, "127.0.0.1", 0)
            theirs = socket.create_connection(server.sockets[0].getsockname())
            transport = await made
            server.close()
        theirs.setblocking(False)
        ends.extend((transport, theirs))
        return transport, theirs

    yield connect
    for transport in ends[::2]:
        transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    for theirs in ends[1::2]:
        theirs.close()


def counts(loop: aiopoll.EventLoop) -> tuple[int, int]:
    statistics = loop.statistics()
    return statistics.more_sends, statistics.pushes


def receive(theirs: socket.socket, size: int) -> bytes:
    """`size` bytes; fewer if they do not come."""
    poller = select.poll()
    poller.register(theirs, select.POLLIN)
    received = b""
    while len(received) < size and poller.poll(HANG_MS):
        received += theirs.recv(size - len(received))
    return received


def held(transport: Any) -> int:
    """Bytes that the kernel has and has not sent: SIOCOUTQNSD."""
    answer = fcntl.ioctl(transport._sock_fd, SIOCOUTQNSD, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


async def in_a_callback(body: Callable[[], None]) -> None:
    """Runs `body` in a callback of its own, whose end it waits for."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def callback() -> None:
        body()
        loop.call_soon(done.set_result, None)

    loop.call_soon(callback)
    await done


def write(transport: Any, count: int) -> Callable[[], None]:
    def body() -> None:
        for piece in PIECES[:count]:
            transport.write(piece)

    return body


@pytest.mark.parametrize("kind", ["tcp", "accepted", "given"])
def test_number_of_writes_is_predicted_by_the_last_callback(
    loop: aiopoll.EventLoop, connect: Connect, kind: str
) -> None:
    async def scenario() -> None:
        transport, theirs = await connect(kind)
        seen = []
        for count in (3, 3, 1, 1, 3):
            await in_a_callback(write(transport, count))
            seen.append(counts(loop))
            assert held(transport) == 0
            written = b"".join(PIECES[:count])
            assert receive(theirs, len(written)) == written
        # Two of three are held; one that comes alone is held, and pushed as its callback ends.
        assert seen == [(0, 0), (2, 0), (3, 1), (3, 1), (3, 1)]

    loop.run_until_complete(scenario())


def test_a_single_write_a_callback_is_never_held(loop: aiopoll.EventLoop, connect: Connect) -> None:
    async def scenario() -> None:
        transport, theirs = await connect("tcp")
        for _ in range(5):
            await in_a_callback(write(transport, 1))
            assert receive(theirs, 5) == b"<one>"
        assert counts(loop) == (0, 0)

    loop.run_until_complete(scenario())


def test_held_data_leaves_in_one_segment(loop: aiopoll.EventLoop, connect: Connect) -> None:
    async def scenario() -> None:
        transport, theirs = await connect("tcp")
        await in_a_callback(write(transport, 3))
        receive(theirs, 17)
        before = segments(theirs)
        await in_a_callback(write(transport, 3))
        assert receive(theirs, 17) == b"".join(PIECES)
        assert segments(theirs) - before == 1

    def segments(theirs: socket.socket) -> int:
        """tcpi_data_segs_in: segments with data that came."""
        info = theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return int.from_bytes(info[152:156], "little")

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, KeyboardInterrupt])
def test_an_exception_in_the_callback_pushes(
    loop: aiopoll.EventLoop, connect: Connect, error: type[BaseException]
) -> None:
    loop.set_exception_handler(lambda *_: None)
    transport, theirs = loop.run_until_complete(connect("tcp"))
    loop.run_until_complete(in_a_callback(write(transport, 3)))
    assert receive(theirs, 17) == b"".join(PIECES)

    def fail() -> None:
        transport.write(b"last words")
        loop.stop()
        raise error

    loop.call_soon(fail)
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        pass
    assert counts(loop) == (1, 1)
    assert held(transport) == 0
    assert receive(theirs, 10) == b"last words"


def test_a_write_while_the_loop_does_not_run_is_not_held(
    loop: aiopoll.EventLoop, connect: Connect
) -> None:
    transport, theirs = loop.run_until_complete(connect("tcp"))
    loop.run_until_complete(in_a_callback(write(transport, 3)))
    assert receive(theirs, 17) == b"".join(PIECES)
    transport.write(b"not running")
    assert receive(theirs, 11) == b"not running"
    assert counts(loop) == (0, 0)


def test_a_unix_socket_shows_each_write_at_once(loop: aiopoll.EventLoop, connect: Connect) -> None:
    async def scenario() -> None:
        transport, theirs = await connect("unix")

        def look() -> None:
            for piece in PIECES:
                transport.write(piece)
                assert theirs.recv(100) == piece
            seen.append(True)

        seen: list[bool] = []
        for _ in range(3):
            await in_a_callback(look)
        assert seen == [True] * 3
        assert counts(loop) == (0, 0)

    loop.run_until_complete(scenario())


def test_each_write_over_tls_is_one_to_its_carrier(
    loop: aiopoll.EventLoop, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def scenario() -> None:
        received = loop.create_future()

        class Heard(Keeper):
            data = b""

            def data_received(self, data: bytes) -> None:
                self.data += data
                if len(self.data) == 2 * 17:
                    received.set_result(self.data)

            def connection_lost(self, exc: Exception | None) -> None:
                over.set_result(exc)

        over = loop.create_future()
        server = await loop.create_server(Heard, "127.0.0.1", 0, ssl=server_context)
        transport, _ = await loop.create_connection(
            Keeper,
            *server.sockets[0].getsockname(),
            ssl=client_context,
            server_hostname="localhost",
        )
        await in_a_callback(write(transport, 3))
        before = counts(loop)
        await in_a_callback(write(transport, 3))
        assert counts(loop) == (before[0] + 2, before[1])
        assert await received == b"".join(PIECES) * 2
        transport.abort()
        await over
        server.close()

    loop.run_until_complete(scenario())


@pytest.fixture
def switched_off(loop_kind: str) -> Iterator[aiopoll.EventLoop]:
    if loop_kind in WAITS:
        loop = waiting_loop(loop_kind, gather_writes=False)
    else:
        loop = aiopoll.new_event_loop(backend=loop_kind, gather_writes=False)
    yield loop
    loop.close()


def test_gathering_is_switched_off_by_an_option(switched_off: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            transport, _ = await switched_off.create_connection(Keeper, *listener.getsockname())
            theirs, _ = listener.accept()
        for _ in range(3):
            await in_a_callback(write(transport, 3))
        assert receive(theirs, 3 * 17) == b"".join(PIECES) * 3
        assert counts(switched_off) == (0, 0)
        transport.abort()
        theirs.close()
        await asyncio.sleep(0)

    switched_off.run_until_complete(scenario())


# The data written, whichever way it leaves


def test_a_broken_connection_is_noticed_as_it_is_written_to(loop: aiopoll.EventLoop) -> None:
    lost: asyncio.Future[Exception | None] = loop.create_future()

    class Lost(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(exc)

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(Lost, sock=ours)
        transport.pause_reading()
        theirs.close()
        transport.write(b"into the void")
        assert transport.is_closing()
        assert isinstance(await lost, BrokenPipeError)

    loop.run_until_complete(scenario())


def test_data_changed_after_write_was_written_before(
    loop: aiopoll.EventLoop, connect: Connect
) -> None:
    async def scenario() -> None:
        transport, theirs = await connect("tcp")
        await in_a_callback(write(transport, 3))
        receive(theirs, 17)
        data = bytearray(b"before")

        def body() -> None:
            transport.write(b"first ")
            transport.write(data)
            data[:] = b"after!"

        await in_a_callback(body)
        assert receive(theirs, 12) == b"first before"

    loop.run_until_complete(scenario())


def test_writelines_takes_any_buffer(loop: aiopoll.EventLoop, connect: Connect) -> None:
    transport, theirs = loop.run_until_complete(connect("unix"))
    transport.writelines(part for part in (array.array("H", b"abcd"), memoryview(b"-e-f")[1::2]))
    assert receive(theirs, 6) == b"abcdef"


def test_writelines_writes_all_or_nothing(loop: aiopoll.EventLoop, connect: Connect) -> None:
    transport, theirs = loop.run_until_complete(connect("unix"))

    def parts() -> Iterator[bytes]:
        yield b"one"
        raise LookupError

    with pytest.raises(TypeError):
        transport.writelines([b"one", "two"])
    with pytest.raises(LookupError):
        transport.writelines(parts())
    with pytest.raises(BlockingIOError):
        theirs.recv(100)


@pytest.mark.parametrize("size", [10, 10_000])
def test_every_second_byte_can_be_written(
    loop: aiopoll.EventLoop, connect: Connect, size: int
) -> None:
    transport, theirs = loop.run_until_complete(connect("unix"))
    transport.write(memoryview(b"-x" * size)[1::2])
    assert receive(theirs, size) == b"x" * size
