"""Sockets whose methods a program has overridden: asyncio's calls are made, on this loop too.

Each scenario runs on asyncio and on this loop: with a class that overrides the methods, with
methods set on the instance, and with socket.socket itself patched.  The same ones are called.
"""

import _socket
import asyncio
import socket
from asyncio import selector_events
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.support.loops import LOOPS
from tests.support.tls import tls_contexts

import aiopoll
from aiopoll.loop.transports.socket_transport import SocketTransport

HANG_SECONDS = 20
METHODS = [
    "recv",
    "recv_into",
    "recvfrom",
    "recvfrom_into",
    "send",
    "sendto",
    "sendmsg",
    "accept",
    "connect",
    "shutdown",
]

Calls = set[str]
Make = Callable[[socket.socket], socket.socket]


def counted(name: str, calls: Calls) -> Callable[..., Any]:
    original = getattr(socket.socket, name)

    def method(self: Any, *args: Any) -> Any:
        calls.add(name)
        return original(self, *args)

    return method


@contextmanager
def subclassed(calls: Calls) -> Iterator[Make]:
    own = type("Own", (socket.socket,), {name: counted(name, calls) for name in METHODS})
    yield lambda sock: own(fileno=sock.detach())


@contextmanager
def on_the_instance(calls: Calls) -> Iterator[Make]:
    class Own(socket.socket):
        """Has a __dict__."""

    def make(sock: socket.socket) -> socket.socket:
        own = Own(fileno=sock.detach())
        for name in METHODS:
            setattr(own, name, counted(name, calls).__get__(own))
        return own

    yield make


@contextmanager
def patched(calls: Calls) -> Iterator[Make]:
    with pytest.MonkeyPatch.context() as patch:
        for name in METHODS:
            patch.setattr(socket.socket, name, counted(name, calls))
        yield lambda sock: sock


WAYS = {"subclass": subclassed, "instance": on_the_instance, "patched class": patched}


OPENED: list[Any] = []


def raw(**options: Any) -> Any:
    """A socket without overridden methods; closed when the scenario is over."""
    sock = _socket.socket(**options)
    sock.setblocking(False)
    OPENED.append(sock)
    return sock


def close_opened() -> None:
    while OPENED:
        OPENED.pop().close()


async def received(peer: Any) -> bytes:
    """The next data, once it is there."""
    while True:
        try:
            data: bytes = peer.recv(1 << 16)
        except BlockingIOError:
            await asyncio.sleep(0)
        else:
            return data


def connected(listener: Any) -> Any:
    """A peer that has connected."""
    peer = raw()
    peer.setblocking(True)
    peer.connect(listener)
    peer.setblocking(False)
    return peer


def end_of_pair(make: Make, kind: int = socket.SOCK_STREAM) -> tuple[Any, Any]:
    """A socket whose methods may be overridden, and its peer, whose methods never are."""
    ours, theirs = socket.socketpair(type=kind)
    own = make(ours)
    own.setblocking(False)
    return own, raw(fileno=theirs.detach())


class Noting(asyncio.Protocol):
    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self.got = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got.set_result(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


class NotingBuffered(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.got = asyncio.get_running_loop().create_future()
        self.buffer = bytearray(10)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got.set_result(bytes(self.buffer[:nbytes]))


class NotingDatagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.set_result(data)


async def reading(loop: Any, make: Make) -> None:
    sock, peer = end_of_pair(make)
    transport, protocol = await loop.create_connection(Noting, sock=sock)
    peer.send(b"x")
    assert await protocol.got == b"x"
    transport.close()
    await protocol.lost


async def reading_into(loop: Any, make: Make) -> None:
    sock, peer = end_of_pair(make)
    transport, protocol = await loop.create_unix_connection(NotingBuffered, sock=sock)
    peer.send(b"x")
    assert await protocol.got == b"x"
    transport.close()


async def writing(loop: Any, make: Make) -> None:
    sock, peer = end_of_pair(make)
    transport, protocol = await loop.connect_accepted_socket(Noting, sock)
    transport.write(b"x")
    assert await received(peer) == b"x"
    transport.close()
    await protocol.lost


async def writing_much(loop: Any, make: Make) -> None:
    sock, peer = end_of_pair(make)
    transport, protocol = await loop.create_connection(Noting, sock=sock)
    transport.write(bytes(1 << 20))
    left = 1 << 20
    while left:
        left -= len(await received(peer))
    transport.close()
    await protocol.lost


async def ending(loop: Any, make: Make) -> None:
    sock, peer = end_of_pair(make)
    transport, protocol = await loop.create_connection(Noting, sock=sock)
    transport.write_eof()
    assert await received(peer) == b""
    transport.close()
    await protocol.lost


async def over_tls(loop: Any, make: Make) -> None:
    server_context, client_context = tls_contexts()
    ours, theirs = socket.socketpair()
    (_, served), (transport, protocol) = await asyncio.gather(
        loop.connect_accepted_socket(Noting, make(theirs), ssl=server_context),
        loop.create_connection(
            Noting, sock=make(ours), ssl=client_context, server_hostname="localhost"
        ),
    )
    transport.write(b"x")
    assert await served.got == b"x"
    transport.close()
    await asyncio.gather(protocol.lost, served.lost)


async def after_start_tls(loop: Any, make: Make) -> None:
    server_context, client_context = tls_contexts()
    ours, theirs = socket.socketpair()
    (server, served), (transport, protocol) = await asyncio.gather(
        loop.connect_accepted_socket(Noting, make(theirs)),
        loop.create_connection(Noting, sock=make(ours)),
    )
    server, transport = await asyncio.gather(
        loop.start_tls(server, served, server_context, server_side=True),
        loop.start_tls(transport, protocol, client_context, server_hostname="localhost"),
    )
    transport.write(b"x")
    assert await served.got == b"x"
    transport.close()
    await asyncio.gather(protocol.lost, served.lost)


async def serving(loop: Any, make: Make, **options: Any) -> Noting:
    """A server whose listener may be overridden; its connections are as accept() makes them."""
    listener = make(socket.create_server(("127.0.0.1", 0)))
    accepted = loop.create_future()

    class Accepted(Noting):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            accepted.set_result(self)

    server = await loop.create_server(Accepted, sock=listener)
    peer = connected(listener.getsockname())
    protocol: Noting = await accepted
    peer.send(b"x")
    assert await protocol.got == b"x"
    protocol.transport.write(b"y")
    assert await received(peer) == b"y"
    protocol.transport.close()
    await protocol.lost
    server.close()
    return protocol


async def serving_only(loop: Any, make: Make) -> None:
    await serving(loop, make)


async def datagrams(loop: Any, make: Make) -> None:
    sock, peer = end_of_pair(make, socket.SOCK_DGRAM)
    transport, protocol = await loop.create_datagram_endpoint(NotingDatagrams, sock=sock)
    peer.send(b"x")
    assert await protocol.got == b"x"
    transport.close()


async def datagrams_out(loop: Any, make: Make) -> None:
    ours = make(socket.socket(type=socket.SOCK_DGRAM))
    ours.bind(("127.0.0.1", 0))
    peer = raw(type=socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=ours)
    transport.sendto(b"x", peer.getsockname())
    assert await received(peer) == b"x"
    transport.close()


async def connected_datagrams_out(loop: Any, make: Make) -> None:
    peer = raw(type=socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    plain = socket.socket(type=socket.SOCK_DGRAM)
    _socket.socket.connect(plain, peer.getsockname())
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=make(plain))
    transport.sendto(b"x")
    assert await received(peer) == b"x"
    transport.close()


async def sock_recv(loop: Any, make: Make) -> None:
    sock, peer = end_of_pair(make)
    peer.send(b"x")
    assert await loop.sock_recv(sock, 10) == b"x"
    sock.close()


async def sock_recv_that_waits(loop: Any, make: Make) -> None:
    sock, peer = end_of_pair(make)
    receiving = asyncio.ensure_future(loop.sock_recv(sock, 10))
    await asyncio.sleep(0)
    peer.send(b"x")
    assert await receiving == b"x"
    sock.close()


async def sock_recv_into(loop: Any, make: Make) -> None:
    sock, peer = end_of_pair(make)
    peer.send(b"x")
    assert await loop.sock_recv_into(sock, bytearray(10)) == 1
    sock.close()


async def sock_recvfrom(loop: Any, make: Make) -> None:
    sock, peer = end_of_pair(make, socket.SOCK_DGRAM)
    peer.send(b"x")
    assert (await loop.sock_recvfrom(sock, 10))[0] == b"x"
    sock.close()


async def sock_recvfrom_into(loop: Any, make: Make) -> None:
    sock, peer = end_of_pair(make, socket.SOCK_DGRAM)
    peer.send(b"x")
    assert (await loop.sock_recvfrom_into(sock, bytearray(10)))[0] == 1
    sock.close()


async def sock_sendall(loop: Any, make: Make) -> None:
    sock, peer = end_of_pair(make)
    await loop.sock_sendall(sock, b"x")
    assert await received(peer) == b"x"
    sock.close()


async def sock_sendto(loop: Any, make: Make) -> None:
    sock = make(socket.socket(type=socket.SOCK_DGRAM))
    sock.setblocking(False)
    peer = raw(type=socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    await loop.sock_sendto(sock, b"x", peer.getsockname())
    assert await received(peer) == b"x"
    sock.close()


async def sock_accept(loop: Any, make: Make) -> None:
    listener = make(socket.create_server(("127.0.0.1", 0)))
    listener.setblocking(False)
    connected(listener.getsockname())
    accepted, _ = await loop.sock_accept(listener)
    accepted.close()
    listener.close()


async def sock_connect(loop: Any, make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = make(socket.socket())
        sock.setblocking(False)
        await loop.sock_connect(sock, listener.getsockname())
        sock.close()


SCENARIOS = [
    reading,
    reading_into,
    writing,
    writing_much,
    ending,
    over_tls,
    after_start_tls,
    serving_only,
    datagrams,
    datagrams_out,
    connected_datagrams_out,
    sock_recv,
    sock_recv_that_waits,
    sock_recv_into,
    sock_recvfrom,
    sock_recvfrom_into,
    sock_sendall,
    sock_sendto,
    sock_accept,
    sock_connect,
]


def called(kind: str, way: str, scenario: Callable[[Any, Make], Any]) -> Calls:
    """The methods that are called in a scenario."""
    loop = LOOPS[kind]()
    calls: Calls = set()
    try:
        with WAYS[way](calls) as make:
            loop.run_until_complete(asyncio.wait_for(scenario(loop, make), HANG_SECONDS))
            loop.run_until_complete(asyncio.sleep(0))
        assert kind == "asyncio" or loop.statistics().watched == 1
    finally:
        close_opened()
        loop.close()
    return calls


@pytest.mark.parametrize("kind", ["aio", "epoll"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_methods_that_asyncio_calls_are_called(
    scenario: Callable[[Any, Make], Any], way: str, kind: str
) -> None:
    expected = called("asyncio", way, scenario)
    assert expected
    assert called(kind, way, scenario) == expected


@pytest.mark.parametrize("kind", ["aio", "epoll"])
def test_a_number_of_its_own_is_asked_for(kind: str) -> None:
    """A socket that stands for another one by its fileno() and its calls."""

    class Proxy(socket.socket):
        def fileno(self) -> int:
            return inner.fileno()

        def recv(self, *args: Any) -> bytes:
            return inner.recv(*args)

    async def scenario() -> None:
        outer = Proxy()
        transport, protocol = await loop.create_connection(Noting, sock=outer)
        theirs.send(b"x")
        assert await protocol.got == b"x"
        transport.close()
        await protocol.lost

    loop = LOOPS[kind]()
    inner, theirs = socket.socketpair()
    with inner, theirs:
        inner.setblocking(False)
        loop.run_until_complete(asyncio.wait_for(scenario(), HANG_SECONDS))
        loop.close()


@pytest.mark.parametrize("loop_kind", ["aio", "epoll", "asyncio"])
@pytest.mark.parametrize("over_tls", [False, True])
def test_a_server_sees_that_the_class_is_patched_later(loop: Any, over_tls: bool) -> None:
    """And continues, in the context of its start, when the patch is removed."""
    calls: Calls = set()
    contexts = tls_contexts()

    async def exchange() -> None:
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=contexts[1] if over_tls else None
        )
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()
        await writer.wait_closed()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        writer.close()

    async def scenario() -> None:
        nonlocal server
        server = await asyncio.start_server(
            echo, "127.0.0.1", 0, ssl=contexts[0] if over_tls else None
        )
        await exchange()
        with patched(calls):
            await exchange()
        assert {"accept", "recv_into" if over_tls else "recv", "send"} <= calls
        calls.clear()
        await exchange()
        assert not calls
        server.close()
        for _ in range(10):
            await asyncio.sleep(0)

    server: Any = None
    loop.run_until_complete(asyncio.wait_for(scenario(), HANG_SECONDS))


@pytest.mark.parametrize("loop_kind", ["aio", "epoll", "asyncio"])
def test_accepted_socket_has_the_class_that_replaces_socket(
    loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a test forbids sockets by putting a class of its own in place of socket.socket."""
    made = []

    class Guarded(socket.socket):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    async def scenario() -> None:
        accepted = loop.create_future()

        class Accepted(Noting):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                accepted.set_result(self)

        server = await loop.create_server(Accepted, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        monkeypatch.setattr(socket, "socket", Guarded)
        for _ in range(2):
            accepted = loop.create_future()
            connected(address)
            protocol = await accepted
            assert isinstance(protocol.transport, selector_events._SelectorSocketTransport)
            assert protocol.transport.get_extra_info("socket").fileno() == made[-1].fileno()
            protocol.transport.close()
            await protocol.lost
        assert len(made) == 2
        monkeypatch.undo()
        server.close()

    loop.run_until_complete(asyncio.wait_for(scenario(), HANG_SECONDS))
    close_opened()


def test_a_plain_socket_is_served_by_system_calls(loop: aiopoll.EventLoop) -> None:
    """Before a patch, and after it."""

    async def scenario() -> None:
        for way in (None, "patched class", None):
            if way is None:
                sock, _ = end_of_pair(lambda sock: sock)
                transport, protocol = await loop.create_connection(Noting, sock=sock)
            else:
                with WAYS[way](set()) as make:
                    sock, _ = end_of_pair(make)
                    transport, protocol = await loop.create_connection(Noting, sock=sock)
            assert isinstance(transport, SocketTransport) == (way is None)
            transport.close()
            await protocol.lost

    loop.run_until_complete(asyncio.wait_for(scenario(), HANG_SECONDS))
    close_opened()
