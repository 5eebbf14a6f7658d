"""A protocol that ends its connection in a callback: connection_lost() comes once, and last.

asyncio's own transports are the oracle of the callbacks before it, but not in resume_writing():
there they call connection_lost() twice.  Over TLS the order depends on how the data comes.
"""

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import pytest
from tests.support.descriptors import stream_pair
from tests.support.loops import IS_3_11_2, LOOPS
from tests.support.tls import tls_contexts

SECONDS_MAX = 20
WAYS = ["close", "abort", "close abort"]
BIG = bytes(4 << 20)


class Counting(socket.socket):
    """A socket whose methods are not socket.socket's: it gets asyncio's transport."""

    def recv(self, *args: Any) -> bytes:
        return super().recv(*args)


class Ending(asyncio.Protocol):
    """Ends its connection in one of its callbacks, and records all callbacks."""

    def __init__(self, at: str, how: str) -> None:
        self.at, self.how = at, how
        self.told: list[str] = []
        self.transport: Any = None

    def tell(self, callback: str) -> None:
        first = callback not in self.told
        self.told.append(callback)
        if callback == self.at and first:
            for call in self.how.split():
                getattr(self.transport, call)()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.tell("connection_made")

    def data_received(self, data: bytes) -> None:
        self.tell("data_received")

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.tell("data_received")

    def error_received(self, error: Exception) -> None:
        self.tell("error_received")

    def eof_received(self) -> bool:
        self.tell("eof_received")
        return False

    def pause_writing(self) -> None:
        self.tell("pause_writing")

    def resume_writing(self) -> None:
        self.tell("resume_writing")

    def connection_lost(self, error: Exception | None) -> None:
        self.tell("connection_lost")

    async def have(self, callback: str) -> None:
        """Waits for a callback, or the end."""
        while callback not in self.told and "connection_lost" not in self.told:
            await asyncio.sleep(0)

    def can_go_on(self) -> bool:
        return not self.transport.is_closing()


class BufferedEnding(Ending, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> bytearray:
        self.buffer = bytearray(1000)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.tell("data_received")


class Peer(asyncio.Protocol):
    """The other end of a stream; reads on request."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True


Drive = Callable[[Any, Ending, ExitStack], Coroutine[Any, Any, Callable[[], bool]]]


async def talk(ending: Ending, peer: Peer) -> None:
    """Causes each callback of a stream in order, until the end."""
    await ending.have("connection_made")
    while peer.transport is None:
        if "connection_lost" in ending.told:
            return  # before the handshake was over at the other end
        await asyncio.sleep(0)
    peer.transport.pause_reading()
    if ending.can_go_on():
        ending.transport.set_write_buffer_limits(0)
        ending.transport.write(BIG)
        await ending.have("pause_writing")
    peer.transport.resume_reading()
    if ending.can_go_on():
        await ending.have("resume_writing")
    if ending.can_go_on():
        peer.transport.write(b"hello")
        await ending.have("data_received")
    if ending.can_go_on():
        if peer.transport.can_write_eof():
            peer.transport.write_eof()
        else:
            peer.transport.close()
        await ending.have("eof_received")
    ending.transport.close()
    await ending.have("connection_lost")
    peer.transport.close()
    while not peer.lost:
        await asyncio.sleep(0)


async def over_sockets(
    loop: Any, ending: Ending, ours: socket.socket, theirs: socket.socket
) -> Callable[[], bool]:
    peer = Peer()
    await loop.create_connection(lambda: peer, sock=theirs)
    await loop.create_connection(lambda: ending, sock=ours)
    await talk(ending, peer)
    return lambda: ours.fileno() < 0


async def unix(loop: Any, ending: Ending, stack: ExitStack) -> Callable[[], bool]:
    return await over_sockets(loop, ending, *stream_pair())


async def overridden(loop: Any, ending: Ending, stack: ExitStack) -> Callable[[], bool]:
    ours, theirs = stream_pair()
    return await over_sockets(loop, ending, Counting(fileno=ours.detach()), theirs)


async def served(
    loop: Any, ending: Ending, context: ssl.SSLContext | None, **options: Any
) -> Callable[[], bool]:
    peer = Peer()
    server = await loop.create_server(lambda: peer, "127.0.0.1", 0, ssl=context)
    await loop.create_connection(lambda: ending, *server.sockets[0].getsockname(), **options)
    sock = ending.transport.get_extra_info("socket")
    await talk(ending, peer)
    server.close()
    await server.wait_closed()
    return lambda: sock is None or sock.fileno() < 0  # asked too late: it was gone


async def tcp(loop: Any, ending: Ending, stack: ExitStack) -> Callable[[], bool]:
    return await served(loop, ending, None)


async def tls(loop: Any, ending: Ending, stack: ExitStack) -> Callable[[], bool]:
    server, client = tls_contexts()
    return await served(loop, ending, server, ssl=client, server_hostname="localhost")


async def accepted(loop: Any, ending: Ending, stack: ExitStack) -> Callable[[], bool]:
    peer = Peer()
    server = await loop.create_server(lambda: ending, "127.0.0.1", 0)
    await loop.create_connection(lambda: peer, *server.sockets[0].getsockname())
    await talk(ending, peer)
    server.close()
    await server.wait_closed()
    return lambda: True


async def exchange_datagrams(
    loop: Any, ending: Ending, kind: type[socket.socket]
) -> Callable[[], bool]:
    sock, theirs = (kind(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    with theirs:
        for end in (sock, theirs):
            end.setblocking(False)
            end.bind("")  # to a name that Linux finds: without one asyncio takes it for unconnected
        sock.connect(theirs.getsockname())
        theirs.connect(sock.getsockname())
        transport, _ = await loop.create_datagram_endpoint(lambda: ending, sock=sock)
        transport.set_write_buffer_limits(0)
        while ending.can_go_on() and "pause_writing" not in ending.told:
            transport.sendto(bytes(1000))
        while ending.can_go_on() and "resume_writing" not in ending.told:
            take_all(lambda: theirs.recv(2000))
            await asyncio.sleep(0)
        if ending.can_go_on():
            theirs.send(b"hello")
            await ending.have("data_received")
        while not take_all(lambda: theirs.recv(2000)):  # data that close() has left to be sent
            await asyncio.sleep(0)
            if "connection_lost" in ending.told or ending.can_go_on():
                break
    if ending.can_go_on():
        transport.sendto(b"to nobody")
        await ending.have("error_received")
    transport.close()
    await ending.have("connection_lost")
    return lambda: sock.fileno() < 0


def take_all(take: Callable[[], bytes]) -> bool:
    """Returns whether the end was read."""
    try:
        while take():
            pass
    except BlockingIOError:
        return False
    return True


async def datagrams(loop: Any, ending: Ending, stack: ExitStack) -> Callable[[], bool]:
    return await exchange_datagrams(loop, ending, socket.socket)


async def overridden_datagrams(loop: Any, ending: Ending, stack: ExitStack) -> Callable[[], bool]:
    return await exchange_datagrams(loop, ending, Counting)


async def write_pipe(loop: Any, ending: Ending, stack: ExitStack) -> Callable[[], bool]:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    stack.callback(os.close, reader)
    pipe = os.fdopen(writer, "wb", 0)
    transport, _ = await loop.connect_write_pipe(lambda: ending, pipe)
    transport.set_write_buffer_limits(0)
    if ending.can_go_on():
        transport.write(BIG)
    while ending.can_go_on() and "resume_writing" not in ending.told:
        take_all(lambda: os.read(reader, 1 << 16))
        await asyncio.sleep(0)
    transport.close()
    while "connection_lost" not in ending.told:
        take_all(lambda: os.read(reader, 1 << 16))
        await asyncio.sleep(0)
    return lambda: pipe.closed


async def read_pipe(loop: Any, ending: Ending, stack: ExitStack) -> Callable[[], bool]:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    pipe = os.fdopen(reader, "rb", 0)
    with os.fdopen(writer, "wb", 0) as end:
        transport, _ = await loop.connect_read_pipe(lambda: ending, pipe)
        if ending.can_go_on():
            end.write(b"hello")
            await ending.have("data_received")
    await ending.have("eof_received")
    transport.close()
    await ending.have("connection_lost")
    return lambda: pipe.closed


STREAMS = ["connection_made", "pause_writing", "resume_writing", "data_received", "eof_received",
           "connection_lost"]  # fmt: skip
DATAGRAMS = [*STREAMS[:4], "error_received", "connection_lost"]
PIPES: dict[Drive, list[str]] = {
    write_pipe: ["connection_made", "pause_writing", "resume_writing", "connection_lost"],
    read_pipe: ["connection_made", "data_received", "eof_received", "connection_lost"],
}
CASES = (
    [(drive, at) for drive in (unix, overridden, tcp, tls, accepted) for at in STREAMS]
    + [(drive, at) for drive in (datagrams, overridden_datagrams) for at in DATAGRAMS]
    + [(drive, at) for drive, callbacks in PIPES.items() for at in callbacks]
)


def run_on(loop: Any, drive: Drive, ending: Ending) -> list[Any]:
    """Records its callbacks; returns the exception handler's reports."""
    errors: list[Any] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))

    async def main() -> None:
        with ExitStack() as stack:
            is_closed = await drive(loop, ending, stack)
        for _ in range(10):  # callbacks still queued
            await asyncio.sleep(0)
        assert is_closed()

    async def bounded(run: Awaitable[None]) -> None:
        await asyncio.wait_for(run, SECONDS_MAX)

    try:
        loop.run_until_complete(bounded(main()))
    finally:
        loop.close()
    return errors


def never_resumes(drive: Drive) -> bool:
    """Whether asyncio's transport is no oracle: Python 3.13.0's keeps datagrams paused for ever."""
    return sys.version_info[:2] == (3, 13) and drive in (datagrams, overridden_datagrams)


def skip_where_asyncio_fails(drive: Drive, at: str, how: str) -> None:
    if IS_3_11_2 and drive is tls and at == "connection_lost" and "abort" in how:
        pytest.skip(reason="abort() of a lost TLS transport is an AttributeError in Python 3.11.2")


def assert_told_once(ending: Ending) -> None:
    assert ending.at in ending.told
    assert ending.told.count("connection_lost") == 1
    assert ending.told[-1] == "connection_lost"


@pytest.mark.parametrize("kind", ["aio", "epoll"])
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    ("drive", "at"), CASES, ids=[f"{drive.__name__}-{at}" for drive, at in CASES]
)
def test_connection_lost_is_called_once_and_last(
    drive: Drive, at: str, how: str, kind: str
) -> None:
    if drive is read_pipe:
        how = how.replace("abort", "close")  # its only call
    skip_where_asyncio_fails(drive, at, how)
    ending = Ending(at, how)
    assert not run_on(LOOPS[kind](), drive, ending)
    assert_told_once(ending)
    if at != "resume_writing" and drive is not tls and not never_resumes(drive):
        oracle = Ending(at, how)
        run_on(asyncio.SelectorEventLoop(), drive, oracle)
        assert ending.told == oracle.told


@pytest.mark.parametrize("kind", ["aio", "epoll"])
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("at", STREAMS)
@pytest.mark.parametrize("drive", [unix, overridden, tcp, tls, accepted])
def test_buffered_protocol_gets_connection_lost_once_too(
    drive: Drive, at: str, how: str, kind: str
) -> None:
    skip_where_asyncio_fails(drive, at, how)
    ending = BufferedEnding(at, how)
    assert not run_on(LOOPS[kind](), drive, ending)
    assert_told_once(ending)


@pytest.mark.parametrize("kind", ["aio", "epoll"])
@pytest.mark.parametrize("drive", [unix, overridden])
def test_error_in_the_last_callback_is_the_one_reported(drive: Drive, kind: str) -> None:
    class Failing(Ending):
        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport._fatal_error(ConnectionAbortedError("enough"))

        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            self.error = error

    ending = Failing("resume_writing", "")
    assert not run_on(LOOPS[kind](), drive, ending)
    assert_told_once(ending)
    assert isinstance(ending.error, ConnectionAbortedError)
