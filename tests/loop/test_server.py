"""Servers: asyncio's, and the features that all Pythons have here; over TCP, Unix sockets, TLS."""

import asyncio
import contextlib
import contextvars
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import until

import aiopoll

KINDS = ["tcp", "unix", "tls"]


class Meeting:
    """A server and one client, which have exchanged a greeting."""

    def __init__(self, kind: str, path: Path, *contexts: ssl.SSLContext) -> None:
        self.kind, self.path, self.contexts = kind, path, contexts
        self.server: Any
        self.met: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]

    async def start(self) -> None:
        self.met = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello\n")
            self.met.set_result((reader, writer))

        if self.kind == "unix":
            self.server = await asyncio.start_unix_server(serve, self.path)
        elif self.kind == "tls":
            self.server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self.contexts[0])
        else:
            self.server = await asyncio.start_server(serve, "127.0.0.1", 0)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.kind == "unix":
            return await asyncio.open_unix_connection(self.path)
        host, port = self.server.sockets[0].getsockname()
        if self.kind == "tls":
            return await asyncio.open_connection(host, port, ssl=self.contexts[1])
        return await asyncio.open_connection(host, port)

    async def meet(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        await self.start()
        reader, writer = await self.connect()
        assert await reader.readline() == b"hello\n"
        await self.met
        return reader, writer


@pytest.fixture(params=KINDS)
def meeting(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> Meeting:
    return Meeting(request.param, tmp_path / "socket", server_context, client_context)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_it_is_asyncios_server(loop: aiopoll.EventLoop, meeting: Meeting) -> None:
    async def scenario() -> None:
        await meeting.start()
        assert isinstance(meeting.server, asyncio.base_events.Server)
        assert isinstance(meeting.server, asyncio.AbstractServer)
        assert meeting.server.is_serving()
        assert meeting.server.get_loop() is loop
        meeting.server.close()
        await meeting.server.wait_closed()
        assert meeting.server.sockets == ()

    loop.run_until_complete(scenario())


SETTLING_TURNS = 20


async def wait_in_between(meeting: Meeting, settle: Any, part: Any) -> None:
    """wait_closed() before and after close(), before and after the last client."""
    waiting = []
    for step in ("before", "closed", "ended"):
        if step == "closed":
            meeting.server.close()
        elif step == "ended":
            part()
        waiting.append(asyncio.ensure_future(meeting.server.wait_closed()))
        await settle(waiting)


async def end_of_a_block(meeting: Meeting, settle: Any, part: Any) -> None:
    async def block() -> None:
        async with meeting.server:
            raise ZeroDivisionError("in the body")

    waiting = [asyncio.ensure_future(block())]
    await settle(waiting)
    part()
    await settle(waiting)


async def end_of_serve_forever(meeting: Meeting, settle: Any, part: Any) -> None:
    waiting = [asyncio.ensure_future(meeting.server.serve_forever())]
    await settle(waiting)
    waiting[0].cancel()
    await settle(waiting)
    part()
    await settle(waiting)


async def close_in_serve_forever(meeting: Meeting, settle: Any, part: Any) -> None:
    waiting = [asyncio.ensure_future(meeting.server.serve_forever())]
    await settle(waiting)
    meeting.server.close()
    await settle(waiting)
    part()
    await settle(waiting)


def seen_on(loop: Any, meeting: Meeting, scenario: Any, with_client: bool) -> list[Any]:
    """The state of each task at each step of a scenario."""
    seen: list[Any] = []

    async def settle(tasks: list[asyncio.Future[Any]]) -> None:
        await turns(SETTLING_TURNS)
        for task in tasks:
            if not task.done():
                seen.append("waits")
            elif task.cancelled():
                seen.append("cancelled")
            else:
                seen.append(repr(task.exception()))
        seen.append("")

    async def main() -> None:
        writers = []
        if with_client:
            _, writer = await meeting.meet()
            _, served = await meeting.met
            writers = [writer, served]
        else:
            await meeting.start()
        await scenario(meeting, settle, lambda: [each.transport.abort() for each in writers])
        await turns(SETTLING_TURNS)

    loop.run_until_complete(main())
    return seen


@pytest.mark.parametrize("with_client", [False, True])
@pytest.mark.parametrize(
    "scenario",
    [wait_in_between, end_of_a_block, end_of_serve_forever, close_in_serve_forever],
)
def test_wait_closed_of_a_server_waits_as_with_asyncio(
    loop: aiopoll.EventLoop, meeting: Meeting, scenario: Any, with_client: bool
) -> None:
    """As in this Python: wait_closed() of 3.11 does not wait for clients of a closed server."""
    seen = seen_on(loop, meeting, scenario, with_client)
    with contextlib.closing(asyncio.SelectorEventLoop()) as oracle:
        assert seen == seen_on(oracle, meeting, scenario, with_client)


@pytest.mark.parametrize("end", ["close_clients", "abort_clients"])
def test_the_clients_of_a_server_can_be_ended(
    loop: aiopoll.EventLoop, meeting: Meeting, end: str
) -> None:
    async def scenario() -> None:
        reader, writer = await meeting.meet()
        _, served = await meeting.met
        meeting.server.close()
        getattr(meeting.server, end)()
        await until(lambda: not meeting.server._active_count)
        assert served.is_closing()
        assert await reader.read() == b""
        getattr(meeting.server, end)()  # none is left
        writer.close()
        await writer.wait_closed()

    loop.run_until_complete(scenario())


def test_clients_are_closed_after_data_and_aborted_before(
    loop: aiopoll.EventLoop,
) -> None:
    async def scenario(end: str) -> int:
        meeting = Meeting("tcp", Path())
        reader, writer = await meeting.meet()
        _, served = await meeting.met
        while not served.transport.get_write_buffer_size():
            served.write(bytes(1 << 20))
            written.append(1 << 20)
        meeting.server.close()
        getattr(meeting.server, end)()
        received = 0
        try:
            while part := await reader.read(1 << 20):
                received += len(part)
        except ConnectionResetError:
            pass
        await meeting.server.wait_closed()
        writer.close()
        return received

    written: list[int] = []
    assert loop.run_until_complete(scenario("close_clients")) == sum(written)
    written.clear()
    assert loop.run_until_complete(scenario("abort_clients")) < sum(written)


def test_a_factory_may_close_the_server(loop: aiopoll.EventLoop) -> None:
    """The connection that it was called for still belongs to the server."""
    protocols = []

    class Protocol(asyncio.Protocol):
        def __init__(self) -> None:
            protocols.append(self)
            servers[0].close()

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            connected.set_result(None)

    servers: list[Any] = []
    connected = loop.create_future()
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def scenario() -> None:
        servers.append(await loop.create_server(Protocol, "127.0.0.1", 0))
        _, writer = await asyncio.open_connection(*servers[0].sockets[0].getsockname())
        await connected
        assert servers[0]._active_count == 1
        protocols[0].transport.close()
        await until(lambda: not servers[0]._active_count)
        writer.close()
        await writer.wait_closed()

    loop.run_until_complete(scenario())
    assert not contexts


@pytest.mark.parametrize("keep_alive", [True, False, None])
def test_keep_alive(loop: aiopoll.EventLoop, keep_alive: bool | None) -> None:
    async def scenario() -> None:
        accepted = loop.create_future()
        server = await aiopoll.start_server(
            lambda reader, writer: accepted.set_result(writer),
            "127.0.0.1",
            0,
            keep_alive=keep_alive,
        )
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        served = await accepted
        option = served.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert bool(option) == bool(keep_alive)
        server.close()
        served.close()
        writer.close()
        await server.wait_closed()

    loop.run_until_complete(scenario())


def test_the_file_of_a_unix_server(loop: aiopoll.EventLoop, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def closed(**options: Any) -> bool:
        """Whether the file is there after a server on it was closed."""
        server = await aiopoll.start_unix_server(lambda *streams: None, path, **options)
        assert path.exists()
        server.close()
        await server.wait_closed()
        there = path.exists()
        path.unlink(missing_ok=True)
        return there

    async def scenario() -> None:
        assert not await closed(cleanup_socket=True)
        assert await closed(cleanup_socket=False)
        # By default as asyncio of this Python.
        stock = await asyncio.SelectorEventLoop.create_unix_server(loop, asyncio.Protocol, path)
        stock.close()
        there = path.exists()
        path.unlink(missing_ok=True)
        assert await closed() == there

    loop.run_until_complete(scenario())


def test_only_the_servers_own_file_is_removed(loop: aiopoll.EventLoop, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def start(**options: Any) -> Any:
        return await loop.create_unix_server(asyncio.Protocol, cleanup_socket=True, **options)

    async def scenario() -> None:
        server = await start(path=path)
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            server.close()
            assert path.exists()
        server = await start(path=path)
        path.unlink()
        server.close()
        assert not path.exists()
        abstract = await start(path=f"\0aiopoll-{os.getpid()}-{id(loop)}")
        abstract.close()
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        server = await start(sock=sock)
        assert path.exists()
        server.close()
        assert not path.exists()

    loop.run_until_complete(scenario())


def test_a_server_without_a_backlog_accepts(loop: aiopoll.EventLoop) -> None:
    """As asyncio from 3.14 on; before, it accepted nothing, and tried again in each iteration."""

    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=0)
        async with server:
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                assert await reader.read() == b""
                writer.close()

    loop.run_until_complete(asyncio.wait_for(scenario(), 30))


def test_a_cancelled_create_server_leaves_nothing(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        before = loop.statistics().watched
        creating = asyncio.ensure_future(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
        while loop.statistics().watched == before:
            await asyncio.sleep(0)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        assert loop.statistics().watched == before

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("debug", [False, True])
def test_failed_handshake_is_reported_in_debug_mode_only(
    loop: aiopoll.EventLoop, server_context: ssl.SSLContext, debug: bool
) -> None:
    """As in asyncio: it is the client's fault."""
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    loop.set_debug(debug)

    async def scenario() -> None:
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server_context)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"this is no TLS\r\n\r\n")
        try:
            await reader.read()  # an alert, and the end
        except ConnectionResetError:
            pass
        writer.close()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(scenario())
    assert [type(context["exception"]) for context in contexts] == [ssl.SSLError] * debug


@pytest.mark.parametrize("loop_kind", ["aio", "one-slot", "epoll", "asyncio"])
def test_connections_have_the_context_of_the_server_start(loop: Any, meeting: Meeting) -> None:
    """Each has a copy: no other connection sees the variables that one sets."""
    name = contextvars.ContextVar("name", default="nobody's")
    seen = []

    class Noting(asyncio.Protocol):
        def __init__(self) -> None:
            seen.append(("factory", name.get()))
            name.set("the connection's")

        def connection_made(self, transport: Any) -> None:
            seen.append(("made", name.get()))
            transport.write(b"hello\n")
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            seen.append(("data", name.get()))
            self.transport.close()

        def connection_lost(self, error: Exception | None) -> None:
            seen.append(("lost", name.get()))

    async def scenario() -> None:
        name.set("the server's")
        if meeting.kind == "unix":
            meeting.server = await loop.create_unix_server(Noting, meeting.path)
        else:
            options = {"ssl": meeting.contexts[0]} if meeting.kind == "tls" else {}
            meeting.server = await loop.create_server(Noting, "127.0.0.1", 0, **options)
        name.set("the program's")
        for _ in range(2):
            reader, writer = await meeting.connect()
            assert await reader.readline() == b"hello\n"
            writer.write(b"x")
            assert await reader.read() == b""
            writer.close()
            while seen[-1][0] != "lost":
                await asyncio.sleep(0)
        meeting.server.close()

    loop.run_until_complete(scenario())
    each = [("factory", "the server's")]
    each += [(call, "the connection's") for call in ("made", "data", "lost")]
    assert seen == each * 2


def test_exception_handler_has_the_context_of_the_server(loop: aiopoll.EventLoop) -> None:
    name = contextvars.ContextVar("name", default="nobody's")
    told = []

    def fail() -> asyncio.Protocol:
        raise ZeroDivisionError

    async def scenario() -> None:
        loop.set_exception_handler(lambda _, told_: told.append((name.get(), told_["exception"])))
        name.set("the server's")
        server = await loop.create_server(fail, "127.0.0.1", 0)
        name.set("the program's")
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()

    loop.run_until_complete(scenario())
    ((seen, error),) = told
    assert seen == "the server's"
    assert isinstance(error, ZeroDivisionError)
