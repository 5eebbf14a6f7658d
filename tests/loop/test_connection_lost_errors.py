"""An exception of connection_lost() reaches the exception handler, whenever it is called."""

import asyncio
import os
import socket
from typing import Any

import pytest
from tests.support.loops import until
from tests.support.tls import tls_contexts

SECONDS_MAX = 30
SIZE = 1 << 20  # more than the sockets here take
ERRORS = [
    OSError(5, "in connection_lost"),
    BrokenPipeError("in connection_lost"),
    ValueError("in connection_lost"),
]


@pytest.fixture(params=["aio", "epoll", "asyncio"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


class Raising(asyncio.Protocol):
    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.lost = 0

    def connection_lost(self, error: Exception | None) -> None:
        self.lost += 1
        raise self.error


def drain(sock: Any) -> bool:
    """Reads all available data; returns whether the end has come."""
    try:
        while data := os.read(sock.fileno(), 1 << 20):
            assert data
    except BlockingIOError:
        return False
    return True


async def tcp(loop: Any, protocol: Raising) -> tuple[Any, Any]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours = socket.create_connection(listener.getsockname())
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        theirs, _ = listener.accept()
    theirs.setblocking(False)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    return transport, theirs


async def unix(loop: Any, protocol: Raising) -> tuple[Any, Any]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    return transport, theirs


async def pipe(loop: Any, protocol: Raising) -> tuple[Any, Any]:
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(writer, "wb", 0))
    return transport, os.fdopen(reader, "rb", 0)


WAYS = {"tcp": tcp, "unix": unix, "pipe": pipe}
ENDS = [
    "close",
    "buffered-close",
    "abort",
    "buffered-abort",
    "peer-is-gone",
    "buffered-peer-is-gone",
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", WAYS)
def test_of_a_stream(loop: Any, way: str, end: str, error: BaseException) -> None:
    told: list[Any] = []
    loop.set_exception_handler(lambda _, context: told.append(context.get("exception")))
    protocol = Raising(error)

    async def scenario() -> None:
        transport, theirs = await WAYS[way](loop, protocol)
        with theirs:
            if end.startswith("buffered"):
                transport.write(bytes(SIZE))
                assert transport.get_write_buffer_size()
            if end.endswith("gone"):
                theirs.close()
                await until(lambda: protocol.lost)
                return
            transport.abort() if end.endswith("abort") else transport.close()
            await until(lambda: drain(theirs) and protocol.lost)

    loop.run_until_complete(asyncio.wait_for(scenario(), SECONDS_MAX))
    assert protocol.lost == 1
    assert told == [error]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("buffered", [False, True])
def test_over_tls(loop: Any, buffered: bool, error: BaseException) -> None:
    told: list[Any] = []
    loop.set_exception_handler(lambda _, context: told.append(context.get("exception")))
    protocol = Raising(error)
    server_context, client_context = tls_contexts()

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        other = asyncio.Protocol()
        (transport, _), (peer, _) = await asyncio.gather(
            loop.create_connection(
                lambda: protocol, sock=ours, ssl=client_context, server_hostname="localhost"
            ),
            loop.connect_accepted_socket(lambda: other, theirs, ssl=server_context),
        )
        if buffered:
            peer.pause_reading()
            transport.write(bytes(SIZE))
            assert transport._ssl_protocol._transport.get_write_buffer_size()
        transport.close()
        peer.resume_reading()
        await until(lambda: protocol.lost)
        peer.abort()

    loop.run_until_complete(asyncio.wait_for(scenario(), SECONDS_MAX))
    assert told == [error]
