"""Datagram transports whose socket is closed by its owner: no other socket is read or sent to."""

import asyncio
import errno
import os
import socket
from contextlib import ExitStack
from typing import Any

import pytest
from tests.support.loops import OURS, until, where_datagrams_pause

TURNS = 8
SECONDS_MAX = 30


@pytest.fixture(params=OURS)
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


class Recorder(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.errors: list[int | None] = []
        self.lost: list[Exception | None] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard.append(data)

    def error_received(self, exc: Exception) -> None:
        assert isinstance(exc, OSError)
        self.errors.append(exc.errno)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Subclass(socket.socket):
    """Served by asyncio's own calls."""


def pair(stack: ExitStack, kind: type[socket.socket] = socket.socket) -> list[socket.socket]:
    """Two sockets that are connected to each other."""
    socks = [kind(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in socks:
        stack.callback(sock.close)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
    for sock, other in (socks, socks[::-1]):
        sock.connect(other.getsockname())
    return socks


def unix_pair(stack: ExitStack) -> list[socket.socket]:
    """Two sockets that are connected to each other, and can be full."""
    socks = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in socks:
        stack.callback(sock.close)
        sock.setblocking(False)
        sock.bind("")  # the kernel finds a name
    for sock, other in (socks, socks[::-1]):
        sock.connect(other.getsockname())
    return socks


def taken(number: int, other: socket.socket, stack: ExitStack) -> None:
    """Gives the free number to the file of `other`."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    os.dup2(other.fileno(), number)
    stack.callback(os.close, number)


def there(sock: socket.socket) -> bytes:
    try:
        return sock.recv(100)
    except BlockingIOError:
        return b""


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def run(loop: Any, scenario: Any) -> None:
    loop.run_until_complete(asyncio.wait_for(scenario(), SECONDS_MAX))


@pytest.mark.parametrize("kind", [socket.socket, Subclass])
def test_a_closed_socket_is_not_read_by_its_number(
    loop: Any, kind: type[socket.socket], stack: ExitStack
) -> None:
    async def scenario() -> None:
        sock, peer = pair(stack, kind)
        other, others_peer = pair(stack)
        kept = stack.enter_context(sock.dup())
        number = sock.fileno()
        transport, ours = await loop.create_datagram_endpoint(Recorder, sock=sock)
        await turns()
        sock.close()
        taken(number, other, stack)
        others_peer.send(b"private")
        await turns()
        assert (ours.heard, ours.errors) == ([], [])
        assert there(other) == b"private"
        # The socket goes on as a duplicate, so that it is reported: that is the error, once.
        peer.send(b"ours")
        await until(lambda: ours.errors)
        await turns()
        assert (ours.heard, ours.errors) == ([], [errno.EBADF])
        assert there(kept) == b"ours"
        transport.close()
        await until(lambda: ours.lost)
        assert ours.lost == [None]
        assert os.fstat(number)

    run(loop, scenario)


@pytest.mark.parametrize("kind", [socket.socket, Subclass])
def test_a_closed_socket_is_not_sent_by_its_number(
    loop: Any, kind: type[socket.socket], stack: ExitStack
) -> None:
    async def scenario() -> None:
        sock, peer = pair(stack, kind)
        other, others_peer = pair(stack)
        number = sock.fileno()
        transport, ours = await loop.create_datagram_endpoint(Recorder, sock=sock)
        await turns()
        transport.sendto(b"ours")
        sock.close()
        taken(number, other, stack)
        transport.sendto(b"late")
        transport.sendto(bytearray(b"later"))
        await turns()
        assert ours.errors == [errno.EBADF] * 2
        assert (there(peer), there(peer), there(others_peer)) == (b"ours", b"", b"")
        transport.abort()
        await until(lambda: ours.lost)
        assert os.fstat(number)

    run(loop, scenario)


@where_datagrams_pause
def test_the_next_owners_watch_is_left_alone(loop: Any, stack: ExitStack) -> None:
    async def scenario() -> None:
        sock, _ = pair(stack)
        other, others_peer = pair(stack)
        number = sock.fileno()
        transport, ours = await loop.create_datagram_endpoint(Recorder, sock=sock)
        await turns()
        sock.close()
        taken(number, other, stack)
        seen: list[bytes] = []
        loop.add_reader(number, lambda: seen.append(there(other)))
        transport.pause_reading()
        with pytest.raises(OSError, match="Bad file descriptor"):
            transport.resume_reading()
        transport.close()
        await until(lambda: ours.lost)
        others_peer.send(b"private")
        await until(lambda: seen)
        assert seen == [b"private"]
        assert loop.remove_reader(number)

    run(loop, scenario)


def test_queued_datagrams_are_not_sent_by_the_number(loop: Any, stack: ExitStack) -> None:
    async def scenario() -> None:
        sock, peer = unix_pair(stack)
        other, others_peer = unix_pair(stack)
        stack.enter_context(sock.dup())
        number = sock.fileno()
        transport, ours = await loop.create_datagram_endpoint(Recorder, sock=sock)
        await turns()
        while not transport.get_write_buffer_size():
            transport.sendto(b"x" * 1000)
            assert not transport.is_closing()
        sock.close()
        taken(number, other, stack)
        while there(peer):
            pass
        await until(lambda: ours.errors)
        await turns()
        assert set(ours.errors) == {errno.EBADF}
        assert (there(peer), there(others_peer)) == (b"", b"")
        transport.abort()
        await until(lambda: ours.lost)

    run(loop, scenario)
