"""A number that its owner has closed names a stranger's file: the loop never touches that."""

import asyncio
import errno
import gc
import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.support.descriptors import stream_pair
from tests.support.loops import OURS, on_asyncio_too
from tests.support.owners import WAITS, full, received, take, turns
from tests.support.tls import tls_contexts

import aiopoll
from aiopoll.reactor.descriptor import Descriptor


@pytest.fixture(params=OURS)
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("call", WAITS)
def test_waiting_call_leaves_the_next_file_alone(loop: Any, call: str) -> None:
    async def scenario(stack: ExitStack) -> None:
        ours, theirs = stream_pair()
        stack.callback(theirs.close)
        number = ours.fileno()
        waiting = asyncio.ensure_future(WAITS[call](loop, ours))
        await turns()
        ours.close()
        stranger, peer = take(number, stack)
        peer.send(b"the stranger's")
        await turns()
        assert received(peer) is None
        assert received(stranger) == b"the stranger's"
        # The loop uses the number again, and the end of the dead call does not disturb it.
        again = asyncio.ensure_future(loop.sock_recv(stranger, 100))
        await turns()
        waiting.cancel()
        await asyncio.wait([waiting])
        peer.send(b"for the second")
        assert await again == b"for the second"

    with ExitStack() as stack:
        loop.run_until_complete(scenario(stack))


def test_listener_that_is_closed_accepts_no_more(loop: Any) -> None:
    """Neither for a waiting sock_accept nor for a server, nor in the kernel."""

    async def scenario(stack: ExitStack) -> None:
        for serve in (False, True):
            listener = socket.create_server(("127.0.0.1", 0))
            listener.setblocking(False)
            address, number = listener.getsockname(), listener.fileno()
            if serve:
                server = await loop.create_server(asyncio.Protocol, sock=listener)
            else:
                waiting = asyncio.ensure_future(loop.sock_accept(listener))
            await turns()
            listener.close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            stranger = socket.create_server(("127.0.0.1", 0))
            stack.callback(stranger.close)
            assert stranger.fileno() == number
            stranger.setblocking(False)
            client = socket.create_connection(stranger.getsockname())
            stack.callback(client.close)
            await turns()
            stranger.accept()[0].close()  # it is still there
            if serve:
                server.close()
            else:
                waiting.cancel()
                await asyncio.wait([waiting])

    with ExitStack() as stack:
        loop.run_until_complete(scenario(stack))


@on_asyncio_too
@pytest.mark.parametrize("operation", [*WAITS, "transport", "add_reader", "add_writer"])
def test_peer_sees_the_end_when_the_owner_closes(loop: Any, operation: str) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        transport = waiting = None
        if operation == "transport":
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        elif operation.startswith("add_"):
            full(ours)
            getattr(loop, operation)(ours, lambda: None)
        else:
            waiting = asyncio.ensure_future(WAITS[operation](loop, ours))
        await turns()
        ours.close()
        while (data := received(theirs)) != b"":
            assert data is not None, "no end"
        theirs.close()
        if operation.startswith("add_") and loop_is_ours(loop):
            assert getattr(loop, operation.replace("add", "remove"))(ours)
        if waiting is not None:
            waiting.cancel()
            await asyncio.wait([waiting])
        if transport is not None:
            transport.abort()
            await turns()

    loop.run_until_complete(scenario())


def loop_is_ours(loop: Any) -> bool:
    return isinstance(loop, aiopoll.EventLoop)


class Heard(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.ends: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ends.append(exc)


@pytest.mark.parametrize("act", ["write", "writelines", "write_eof", "close", "abort"])
@pytest.mark.parametrize("waits", [False, True])
def test_transport_that_has_lost_its_socket_ends_once(loop: Any, act: str, waits: bool) -> None:
    """Whatever it does next, with data waiting to be written or without."""

    async def scenario(stack: ExitStack) -> None:
        ours, theirs = stream_pair()
        stack.callback(theirs.close)
        number = ours.fileno()
        transport, heard = await loop.create_connection(Heard, sock=ours)
        if waits:
            transport.write(b"x" * 3_000_000)
        await turns()
        ours.close()
        stranger, peer = take(number, stack)
        calls: list[str] = []
        errors: list[int | None] = []
        loop.add_reader(stranger, calls.append, "mine")
        peer.send(b"the stranger's")
        await turns()
        try:
            if act == "write":
                transport.write(b"late")
            elif act == "writelines":
                transport.writelines([b"late", b"later"])
            else:
                getattr(transport, act)()
        except OSError as error:
            errors.append(error.errno)
        assert errors == ([errno.EBADF] if act == "write_eof" and not waits else [])
        await turns()
        if not heard.ends:
            transport.abort()
            await turns()
        assert len(heard.ends) == 1
        assert heard.data == b""
        assert received(peer) is None
        assert calls, "the stranger's reader was lost"
        assert stranger.fileno() == number
        assert received(stranger) == b"the stranger's"
        assert loop.remove_reader(stranger)

    with ExitStack() as stack:
        loop.run_until_complete(scenario(stack))


def test_socket_of_an_accepted_connection_can_be_closed(loop: Any) -> None:
    """Its object can be had from the transport, late too: from then on it is not the loop's own."""

    async def scenario(stack: ExitStack) -> None:
        accepted: list[Any] = []

        class Accepted(Heard):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.append((transport, self))

        server = await loop.create_server(Accepted, "127.0.0.1", 0)
        theirs = socket.create_connection(server.sockets[0].getsockname())
        stack.callback(theirs.close)
        while not accepted:
            await asyncio.sleep(0)
        transport, heard = accepted[0]
        theirs.send(b"one")
        while not heard.data:
            await asyncio.sleep(0)
        transport.get_extra_info("socket")
        theirs.send(b"two")
        while len(heard.data) < 6:
            await asyncio.sleep(0)
        transport._sock.close()
        assert await asyncio.to_thread(theirs.recv, 1) == b""
        transport.write(b"late")
        await turns()
        assert len(heard.ends) == 1
        server.close()
        await server.wait_closed()

    with ExitStack() as stack:
        loop.run_until_complete(scenario(stack))


@pytest.fixture
def connected(loop: Any) -> Iterator[Any]:
    """A connection that the loop has made by address, its protocol, and its peer's socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport, protocol = loop.run_until_complete(
            loop.create_connection(Heard, *listener.getsockname())
        )
        peer, _ = listener.accept()
    with peer:
        yield transport, protocol, peer
    transport.abort()
    loop.run_until_complete(turns())


@on_asyncio_too
def test_connection_by_address_is_polled_by_aio(loop: Any, connected: Any) -> None:
    """Its number is the loop's own, until a program asks for the socket."""
    transport, protocol, peer = connected
    statistics = loop.statistics() if loop_is_ours(loop) else None
    if statistics and statistics.nr_events > 1 and not statistics.uses_set:
        assert statistics.in_epoll == 1  # the self-pipe
        transport.get_extra_info("socket")
        assert loop.statistics().in_epoll == 2

    async def scenario() -> None:
        for text in (b"one", b"two", b"three"):
            protocol.data = b""
            peer.send(text)
            while protocol.data != text:
                await asyncio.sleep(0)
        sock = transport.get_extra_info("socket")
        assert sock.getpeername() == peer.getsockname()
        peer.send(b"four")
        while not protocol.data.endswith(b"four"):
            await asyncio.sleep(0)

    loop.run_until_complete(scenario())


def test_resumed_transport_does_not_wait_for_the_next_file(loop: Any) -> None:
    async def scenario(stack: ExitStack) -> None:
        ours, theirs = stream_pair()
        stack.callback(theirs.close)
        number = ours.fileno()
        transport, heard = await loop.create_connection(Heard, sock=ours)
        await turns()
        transport.pause_reading()
        ours.close()
        stranger, peer = take(number, stack)
        before = loop.statistics().watched
        with pytest.raises(OSError, match="Bad file descriptor"):
            transport.resume_reading()
        assert loop.statistics().watched == before
        peer.send(b"the stranger's")
        await turns()
        assert received(stranger) == b"the stranger's"
        transport.abort()
        await turns()
        assert len(heard.ends) == 1

    with ExitStack() as stack:
        loop.run_until_complete(scenario(stack))


def test_next_file_of_a_number_can_have_a_transport(loop: Any) -> None:
    """The end of the transport that lost the number leaves the new one registered."""

    async def scenario(stack: ExitStack) -> None:
        ours, theirs = stream_pair()
        stack.callback(theirs.close)
        number = ours.fileno()
        dead, _ = await loop.create_connection(Heard, sock=ours)
        await turns()
        ours.close()
        stranger, peer = take(number, stack)
        alive, heard = await loop.create_connection(Heard, sock=stranger)
        dead.abort()
        await turns()
        peer.send(b"for the second")
        await turns()
        assert heard.data == b"for the second"
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(stranger, 1)
        alive.abort()
        await turns()

    with ExitStack() as stack:
        loop.run_until_complete(scenario(stack))


def test_descriptor_of_a_closed_file_keeps_the_next_reader(loop: Any) -> None:
    """asyncio's own transports pass the number that they had."""
    with ExitStack() as stack:
        ours, theirs = stream_pair()
        stack.callback(theirs.close)
        mine = Descriptor(ours.fileno(), ours)
        loop._add_reader(mine, lambda: None)
        ours.close()
        stranger, _ = take(int(mine), stack)
        loop.add_reader(stranger, lambda: None)
        assert not loop._remove_reader(mine)
        assert not loop._remove_writer(mine)
        assert loop.remove_reader(stranger)
        loop.add_reader(int(mine), lambda: None)  # by the number: its owner is unknown
        assert not loop._remove_reader(mine)
        assert loop.remove_reader(int(mine))


@on_asyncio_too
def test_both_directions_of_a_socket_can_wait_at_once(loop: Any) -> None:
    """And each goes on when the other one is done, or was cancelled."""

    async def scenario(stack: ExitStack) -> None:
        ours, theirs = stream_pair()
        stack.callback(ours.close)
        stack.callback(theirs.close)
        data = os.urandom(1_000_000)
        for first in ("recv", "send", "cancelled"):
            reading = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns()
            writing = asyncio.ensure_future(loop.sock_sendall(ours, data))
            await turns()
            if first == "recv":
                theirs.send(b"x")
                assert await reading == b"x"
            elif first == "cancelled":
                reading.cancel()
                await asyncio.wait([reading])
            got = b""
            while len(got) < len(data):
                got += received(theirs) or b""
                await asyncio.sleep(0)
            assert got == data
            await writing
            if first == "send":
                theirs.send(b"x")
                assert await reading == b"x"

    with ExitStack() as stack:
        loop.run_until_complete(scenario(stack))


@on_asyncio_too
def test_file_put_under_a_waiting_number_is_found(loop: Any) -> None:
    """dup2 replaces the file under a number that its object keeps."""

    async def scenario(stack: ExitStack) -> None:
        ours, theirs = stream_pair()
        other, other_peer = stream_pair()
        for sock in (ours, theirs, other, other_peer):
            stack.callback(sock.close)
        theirs.send(b"a")
        assert await loop.sock_recv(ours, 1) == b"a"
        waiting = asyncio.ensure_future(loop.sock_recv(ours, 1))
        await turns()
        theirs.send(b"b")
        assert await waiting == b"b"
        os.dup2(other.fileno(), ours.fileno())
        waiting = asyncio.ensure_future(loop.sock_recv(ours, 1))
        await turns()
        other_peer.send(b"c")
        assert await waiting == b"c"

    with ExitStack() as stack:
        loop.run_until_complete(scenario(stack))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("when", ["before", "by the factory", "last"])
def test_transport_of_a_closed_socket_is_not_made(
    loop: Any, monkeypatch: pytest.MonkeyPatch, when: str, tls: bool
) -> None:
    """Another thread may close it between any two steps; here a function called in between does.

    No object is left that warns when it is collected.
    """
    made: list[asyncio.Protocol] = []

    def is_plain(sock: socket.socket) -> bool:
        if when == "last":
            sock.close()
        return True

    monkeypatch.setattr("aiopoll.loop.event_loop.is_plain", is_plain)

    def make() -> asyncio.Protocol:
        made.append(Heard())
        if when == "by the factory":
            ours.close()
        return made[-1]

    async def scenario() -> None:
        if when == "before":
            ours.close()
        options = {"ssl": tls_contexts()[1], "server_hostname": "name"} if tls else {}
        with pytest.raises(OSError, match="Bad file descriptor"):
            await loop.create_connection(make, sock=ours, **options)

    ours, theirs = stream_pair()
    with theirs:
        loop.run_until_complete(scenario())
    gc.collect()


@on_asyncio_too
def test_peer_of_a_blocked_writer_sees_the_abort(loop: Any) -> None:
    """A poll for writing that went on would keep the file open until the peer has read.

    With input unread, close(2) resets a TCP connection: the peer sees it at once.
    """

    class Blocked(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.lost = loop.create_future()
            while not transport.get_write_buffer_size():
                transport.write(b"\0" * 1_000_000)
            made.set_result((transport, self))

        def connection_lost(self, error: Exception | None) -> None:
            self.lost.set_result(error)

    async def scenario() -> None:
        server = await loop.create_server(Blocked, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as peer:
            transport, protocol = await made
            transport.pause_reading()
            peer.send(b"nobody reads this")
            await turns()  # it is polled for writing
            transport.abort()
            await protocol.lost
            await turns()
            poller = select.poll()
            poller.register(peer, 0)
            ((_, event),) = poller.poll(10_000)
            assert event & select.POLLHUP
        server.close()

    made = loop.create_future()
    loop.run_until_complete(scenario())
