"""A close by the loop takes effect: the peer sees it at once; ports and paths are free again.

A request parked in the kernel pins its file, so that close(2) alone does not end it.  The loop does
not run while the peer waits: a later repair is too late.  asyncio's own loop is run with the same
tests.
"""

import asyncio
import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aiopoll

TOLD_MS = 10_000  # the peer sees the end, or not: a bound for hangs
TURNS = 2  # asyncio's close() calls connection_lost in the next iteration, and closes in it

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["aio", "epoll", "nr_events=1", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop: asyncio.AbstractEventLoop
    if request.param == "asyncio":
        loop = asyncio.SelectorEventLoop()
    elif request.param == "nr_events=1":
        loop = aiopoll.new_event_loop(backend="aio", nr_events=1)
    else:
        loop = aiopoll.new_event_loop(backend=request.param)
    yield loop
    loop.close()


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def is_told(sock: socket.socket) -> bool:
    """Whether the end of the connection arrives; the data before it is read and thrown away."""
    sock.setblocking(False)
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    while poller.poll(TOLD_MS):
        try:
            if not sock.recv(65536):
                return True
        except ConnectionResetError:
            return True
    return False


class Buffered(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.buffer = bytearray(100)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer


async def leave_parked(transport: Any, theirs: socket.socket) -> None:
    await turns(3)


async def leave_at_once(transport: Any, theirs: socket.socket) -> None:
    pass


async def leave_paused(transport: Any, theirs: socket.socket) -> None:
    await turns(2)
    transport.pause_reading()


async def leave_paused_for_turns(transport: Any, theirs: socket.socket) -> None:
    await turns(2)
    transport.pause_reading()
    await turns(2)


async def leave_resumed(transport: Any, theirs: socket.socket) -> None:
    await turns(2)
    transport.pause_reading()
    await turns(1)
    transport.resume_reading()


async def leave_after_data(transport: Any, theirs: socket.socket) -> None:
    await turns(2)
    theirs.send(b"x")
    await turns(1)


async def leave_after_a_write(transport: Any, theirs: socket.socket) -> None:
    await turns(2)
    transport.write(b"x")


async def leave_half_closed(transport: Any, theirs: socket.socket) -> None:
    await turns(2)
    transport.write(b"x")
    transport.write_eof()
    await turns(2)


STATES = [
    leave_parked,
    leave_at_once,
    leave_paused,
    leave_paused_for_turns,
    leave_resumed,
    leave_after_data,
    leave_after_a_write,
    leave_half_closed,
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("protocol", [asyncio.Protocol, Buffered])
def test_a_transport(
    loop: asyncio.AbstractEventLoop,
    stream_pair: Callable[[], Pair],
    state: Callable[[Any, socket.socket], Any],
    end: str,
    protocol: Any,
) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        transport, _ = await loop.create_connection(protocol, sock=ours)
        await state(transport, theirs)
        getattr(transport, end)()
        await turns(TURNS)
        assert is_told(theirs)

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("paused", [False, True])
def test_abort_with_data_unsent(
    loop: asyncio.AbstractEventLoop, stream_pair: Callable[[], Pair], paused: bool
) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        while not transport.get_write_buffer_size():
            transport.write(bytes(1 << 20))
            await asyncio.sleep(0)
        await turns(2)  # it waits for room now
        if paused:
            transport.pause_reading()
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        await turns(TURNS)
        assert is_told(theirs)

    loop.run_until_complete(scenario())


def test_close_with_data_unsent_sends_it_all_first(
    loop: asyncio.AbstractEventLoop, stream_pair: Callable[[], Pair]
) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.write(b"a" * (8 << 20))
        transport.write(b"b")
        transport.close()
        received = bytearray()
        while chunk := await loop.sock_recv(theirs, 1 << 20):
            received += chunk
        assert len(received) == (8 << 20) + 1
        assert received.endswith(b"ab")

    loop.run_until_complete(scenario())


def test_abort_with_data_unread_is_a_reset(loop: asyncio.AbstractEventLoop) -> None:
    """Linux resets a TCP connection that is closed with data unread, with or without AIO."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            await turns(3)
            transport.pause_reading()
            theirs.send(b"never read")
            await turns(3)
            transport.abort()
            await turns(TURNS)
            poller = select.poll()
            poller.register(theirs, select.POLLIN)
            assert poller.poll(TOLD_MS)
            with pytest.raises(ConnectionResetError):
                theirs.recv(1)

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("when", ["parked", "same turn", "in its callback"])
def test_a_file_that_the_program_closes_after_remove_reader(
    loop: asyncio.AbstractEventLoop, stream_pair: Callable[[], Pair], when: str
) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        called = loop.create_future()

        def close() -> None:
            loop.remove_reader(ours)
            loop.remove_writer(ours)
            ours.close()
            called.set_result(None)

        loop.add_reader(ours, close)
        if when == "in its callback":
            theirs.send(b"x")
            await called
        else:
            loop.add_writer(ours, list)
            if when == "parked":
                await turns(3)
            close()
        assert is_told(theirs)

    loop.run_until_complete(scenario())


def test_a_file_left_in_a_loop_that_is_closed(stream_pair: Callable[[], Pair]) -> None:
    for options in ({"backend": "aio"}, {"backend": "epoll"}):
        loop = aiopoll.new_event_loop(**options)
        ours, theirs = stream_pair()
        loop.add_reader(ours, list)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        ours.close()
        assert is_told(theirs)


def test_pipes(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        for paused in (False, True):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            reading, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(reader, "rb", 0))
            await turns(3)
            if paused:
                reading.pause_reading()
            reading.close()
            await turns(TURNS)
            with pytest.raises(BrokenPipeError):
                os.write(writer, b"x")
            os.close(writer)

            reader, writer = os.pipe2(os.O_CLOEXEC)
            writing, _ = await loop.connect_write_pipe(
                asyncio.BaseProtocol, os.fdopen(writer, "wb", 0)
            )
            await turns(3)
            writing.abort() if paused else writing.close()
            await turns(TURNS)
            poller = select.poll()
            poller.register(reader, select.POLLIN)
            assert poller.poll(TOLD_MS)
            assert os.read(reader, 1) == b""
            os.close(reader)

    loop.run_until_complete(scenario())


def test_closed_listener_accepts_none_and_its_port_is_free(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        port = 0
        for _ in range(10):
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", port)
            port = server.sockets[0].getsockname()[1]
            await turns(3)
            server.close()
            await turns(1)
            with socket.socket() as client:
                assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED

    loop.run_until_complete(scenario())


def test_closed_unix_listener_accepts_none(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    async def scenario() -> None:
        path = str(tmp_path / "listener")
        for _ in range(10):
            server = await loop.create_unix_server(asyncio.Protocol, path)
            await turns(3)
            server.close()
            await turns(1)
            with socket.socket(socket.AF_UNIX) as client:
                refused = client.connect_ex(path)
                assert refused in (errno.ECONNREFUSED, errno.ENOENT)  # 3.13 removes the path

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_datagram_port_is_free(loop: asyncio.AbstractEventLoop, end: str) -> None:
    async def scenario() -> None:
        address = ("127.0.0.1", 0)
        for _ in range(10):
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=address
            )
            address = transport.get_extra_info("sockname")
            await turns(3)
            getattr(transport, end)()
            await turns(TURNS)
            with socket.socket(type=socket.SOCK_DGRAM) as next_user:
                next_user.bind(address)

    loop.run_until_complete(scenario())
