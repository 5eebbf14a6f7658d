"""The private attributes of asyncio's that libraries read and set."""

import asyncio
import os
import socket
from contextlib import ExitStack
from heapq import nsmallest
from typing import Any

import pytest
from tests.support.descriptors import stream_pair
from tests.support.loops import LOOPS
from tests.support.tls import tls_contexts

import aiopoll

SECONDS_MAX = 20


class Heard(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.data += data

    def error_received(self, error: Exception) -> None:
        pass


class BufferedHeard(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.data = b""
        self.buffer = bytearray(100)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]


class Counting(socket.socket):
    def recv(self, *args: Any) -> bytes:
        return super().recv(*args)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def transport_of(kind: str, loop: Any, stack: ExitStack) -> tuple[Any, Any]:
    """A transport, and a function that sends data to it."""
    if kind.endswith("pipe"):
        reader, writer = os.pipe2(os.O_NONBLOCK)
        if kind == "read pipe":
            stack.callback(os.close, writer)
            pipe = os.fdopen(reader, "rb", 0)
            transport, _ = await loop.connect_read_pipe(Heard, pipe)
            return transport, lambda data: os.write(writer, data)
        stack.callback(os.close, reader)
        transport, _ = await loop.connect_write_pipe(Heard, os.fdopen(writer, "wb", 0))
        return transport, None
    if kind.endswith("datagrams"):
        ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
        ours = (Counting if "overridden" in kind else socket.socket)(fileno=ours.detach())
        ours.setblocking(False)
        transport, _ = await loop.create_datagram_endpoint(Heard, sock=ours)
    else:
        ours, theirs = stream_pair()
        ours = (Counting if "overridden" in kind else socket.socket)(fileno=ours.detach())
        transport, _ = await loop.create_connection(Heard, sock=ours)
    stack.enter_context(theirs)
    return transport, theirs.send


KINDS = ["stream", "overridden stream", "datagrams", "overridden datagrams", "read pipe",
         "write pipe"]  # fmt: skip


def run(kind: str, main: Any) -> None:
    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(asyncio.wait_for(main, SECONDS_MAX))


@pytest.mark.parametrize("loop_kind", ["aio", "epoll", "asyncio"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_protocol_of_a_transport_can_be_set(kind: str, loop_kind: str) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            loop = asyncio.get_running_loop()
            transport, send = await transport_of(kind, loop, stack)
            other = Heard()
            transport._protocol = other
            assert transport._protocol is other
            assert transport.get_protocol() is other
            if send is not None:
                send(b"hello")
                while not other.data:
                    await asyncio.sleep(0)
            transport.close()
            await turns()

    run(loop_kind, main())


@pytest.mark.parametrize("loop_kind", ["aio", "epoll"])
def test_replaced_protocol_is_called_by_its_own_kind(loop_kind: str) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            transport, send = await transport_of("stream", asyncio.get_running_loop(), stack)
            for other in (BufferedHeard(), Heard(), BufferedHeard()):
                transport._protocol = other
                send(b"hello")
                while not other.data:
                    await asyncio.sleep(0)
            transport.close()
            await asyncio.sleep(0)

    run(loop_kind, main())


@pytest.mark.parametrize("loop_kind", ["aio", "epoll", "asyncio"])
@pytest.mark.parametrize("kind", KINDS)
def test_whether_a_transport_closes_can_be_set(kind: str, loop_kind: str) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            transport, _ = await transport_of(kind, asyncio.get_running_loop(), stack)
            sock = transport.get_extra_info("socket") or transport.get_extra_info("pipe")
            for closing in (True, False):
                transport._closing = closing
                assert transport._closing is closing
                assert transport.is_closing() is closing
            transport._closing = True
            transport.close()  # as that was done already
            await turns()
            assert sock.fileno() >= 0
            transport._closing = False
            transport.close()
            while (
                sock.fileno() >= 0
                if isinstance(sock, asyncio.trsock.TransportSocket)
                else (not sock.closed)
            ):
                await asyncio.sleep(0)

    run(loop_kind, main())


@pytest.mark.parametrize("loop_kind", ["aio", "epoll", "asyncio"])
def test_the_protocol_below_tls_can_be_set(loop_kind: str) -> None:
    """As libraries do that wrap the encrypted data."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server_context, client_context = tls_contexts()
        ended = loop.create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            try:
                await reader.read()
            except OSError:
                pass  # the other end aborts
            writer.close()
            ended.set_result(None)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
        async with server:
            options: dict[str, Any] = {"ssl": client_context, "server_hostname": "localhost"}
            transport, heard = await loop.create_connection(
                Heard, *server.sockets[0].getsockname(), **options
            )
            carrier: Any = transport._ssl_protocol._transport  # type: ignore[attr-defined]
            carrier._protocol = carrier.get_protocol()
            while heard.data != b"hello":
                await asyncio.sleep(0)
            transport.abort()
            await ended
            await turns()

    run(loop_kind, main())


# Timers


@pytest.mark.parametrize("when", [2**31, 3, True, 1.5, float("inf")])
def test_a_timer_keeps_the_number_that_was_given(loop: aiopoll.EventLoop, when: Any) -> None:
    for debug in (False, True):
        loop.set_debug(debug)
        handle = loop.call_at(when, print)
        assert handle.when() is when
        assert handle == loop.call_at(when, print)
    loop.time = lambda: 7  # type: ignore[method-assign]
    for debug in (False, True):
        loop.set_debug(debug)
        given = loop.call_later(5, print).when()
        assert (given, type(given)) == (12, int)


@pytest.mark.parametrize("loop_kind", ["aio", "epoll", "asyncio"])
def test_the_timers_of_a_loop_can_be_read(loop: Any) -> None:
    timers = loop._scheduled
    assert not timers
    assert len(timers) == 0
    assert list(timers) == []
    now = loop.time()
    handles = [loop.call_at(now + delay, print) for delay in (500, 300, 900, 100, 700, 300)]
    assert timers
    assert len(loop._scheduled) == len(timers) == 6
    assert timers[0] is handles[3]
    assert min(timers) is handles[3]
    assert sorted(timers) == sorted(handles)
    assert nsmallest(1, timers) == [handles[3]]
    assert set(timers) == set(handles)
    assert set(timers[-6:]) == set(handles)
    assert [timers[i] for i in range(6)] == list(timers)
    assert timers[-1] is list(timers)[-1]
    assert handles[4] in timers
    assert timers[timers.index(handles[2])] is handles[2]
    for place, timer in enumerate(timers):  # the order of a heap
        assert timers[(place - 1) // 2 if place else 0]._when <= timer._when
    with pytest.raises(IndexError):
        timers[6]
    with pytest.raises(IndexError):
        timers[-7]
    handles[0].cancel()
    assert [timer for timer in timers if timer.cancelled()] == [handles[0]]
    assert len(timers) == 6  # until it is thrown out
    assert timers[0]._scheduled
    timers.clear()
    assert len(loop._scheduled) == 0


def test_a_timer_that_has_run_is_not_there_any_more(loop: aiopoll.EventLoop) -> None:
    seen: list[int] = []

    async def main() -> None:
        loop.call_later(0, lambda: seen.append(len(loop._scheduled)))
        keep = loop.call_later(1000, print)
        while not seen:
            await asyncio.sleep(0)
        assert loop._scheduled == [keep]
        assert repr(loop._scheduled) == repr([keep])
        keep.cancel()

    loop.run_until_complete(main())
    assert seen == [1]


def test_timers_cannot_be_added_past_call_at(loop: aiopoll.EventLoop) -> None:
    handle = loop.call_later(1000, print)
    with pytest.raises(AttributeError, match="call_at"):
        loop._scheduled = [handle]
    assert list(loop._scheduled) == [handle]


def test_a_closed_loop_has_no_timers() -> None:
    loop = aiopoll.new_event_loop()
    loop.call_later(1000, print)
    timers = loop._scheduled
    assert len(timers) == 1
    loop.close()
    assert len(timers) == len(loop._scheduled) == 0


def test_overridden_run_once_finds_no_timers_in_scheduled() -> None:
    """They would run twice: select() puts due timers into the ready queue."""

    class Patched(aiopoll.EventLoop):
        def _run_once(self) -> None:
            super()._run_once()

    loop = Patched()
    loop.call_later(1000, print)
    assert loop._scheduled == []
    loop.close()
