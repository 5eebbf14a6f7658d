"""aiopoll's streams: interchangeable with asyncio's, on our loop and on asyncio's."""

import asyncio
import gc
import ssl
import sys
import warnings
from asyncio import streams as asyncio_streams
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import until
from tests.support.streams import Link, run, streams_over

import aiopoll


@pytest.fixture(params=["aio", "epoll", "asyncio"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def asyncios_by_name(loop: Any) -> None:
    """Has asyncio's names mean asyncio's classes on this loop, to compare ours with."""
    loop._compiled_streams = False


Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert type(reader) is aiopoll.StreamReader
    assert type(writer) is aiopoll.StreamWriter
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def talk(server: asyncio.Server, connect: Connect) -> None:
    """Each way of reading over one connection, then a close."""
    async with server:
        reader, writer = await connect()
        assert isinstance(reader, asyncio.StreamReader)
        assert isinstance(writer, asyncio.StreamWriter)
        writer.write(b"a line\n")
        assert await reader.readline() == b"a line\n"
        writer.writelines([b"one;", b"two;", b"rest"])
        await writer.drain()
        assert await reader.readuntil(b";") == b"one;"
        assert await reader.readuntil(b";") == b"two;"
        assert await reader.readexactly(4) == b"rest"
        big = bytes(range(256)) * 8000
        writer.write(big + b"\n")
        assert await reader.readexactly(len(big)) == big
        assert await reader.read(100) == b"\n"
        assert not reader.at_eof()
        writer.write(b"1\n2\n3")
        if writer.can_write_eof():
            writer.write_eof()
            assert [line async for line in reader] == [b"1\n", b"2\n", b"3"]
            assert reader.at_eof()
            assert await reader.read() == b""
        else:
            assert await reader.readexactly(5) == b"1\n2\n3"
        writer.close()
        await writer.wait_closed()


def test_tcp(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        server = await aiopoll.start_server(echo, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        await talk(server, lambda: aiopoll.open_connection(host, port))

    run(loop, scenario())


def test_unix(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    async def scenario() -> None:
        server = await aiopoll.start_unix_server(echo, tmp_path / "echo")
        await talk(server, lambda: aiopoll.open_unix_connection(tmp_path / "echo"))

    run(loop, scenario())


def test_tls(
    loop: asyncio.AbstractEventLoop,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    async def scenario() -> None:
        server = await aiopoll.start_server(echo, "127.0.0.1", 0, ssl=server_context)
        host, port = server.sockets[0].getsockname()
        await talk(server, lambda: aiopoll.open_connection(host, port, ssl=client_context))

    run(loop, scenario())


def test_start_tls(
    loop: asyncio.AbstractEventLoop,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    async def upgraded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.start_tls(server_context)
        await echo(reader, writer)

    async def scenario() -> None:
        server = await aiopoll.start_server(upgraded, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()

        async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await aiopoll.open_connection(host, port)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go\n"
            await writer.start_tls(client_context, server_hostname="localhost")
            assert writer.get_extra_info("ssl_object") is not None
            return reader, writer

        await talk(server, connect)

    run(loop, scenario())


def test_limit_pauses_transport_and_overlong_line_raises(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def scenario() -> None:
        async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"x" * 5000 + b"\nshort\n")
            await reader.read()
            writer.close()
            await writer.wait_closed()

        server = await aiopoll.start_server(send, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            reader, writer = await aiopoll.open_connection(*address, limit=1000)
            with pytest.raises(asyncio.LimitOverrunError):
                await reader.readuntil(b"\n")
            with pytest.raises(ValueError, match="limit"):
                await reader.readline()
            rest = b""
            while not rest.endswith(b"short\n"):
                rest += await reader.readexactly(1)
            writer.close()
            await writer.wait_closed()

    run(loop, scenario())


def test_accelerate_streams_can_be_undone(loop: asyncio.AbstractEventLoop) -> None:
    names = ("open_connection", "start_server", "open_unix_connection", "start_unix_server")
    modules: tuple[Any, ...] = (asyncio, asyncio_streams)
    before = [getattr(module, name) for module in modules for name in names]

    async def scenario() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        await talk(server, lambda: asyncio.open_connection(*server.sockets[0].getsockname()))

    with aiopoll.accelerate_streams():
        for name in names:
            assert [getattr(module, name) for module in modules] == [getattr(aiopoll, name)] * 2
        run(loop, scenario())
    assert [getattr(module, name) for module in modules for name in names] == before
    outer = aiopoll.accelerate_streams()
    inner = aiopoll.accelerate_streams()
    outer.close()
    inner.close()
    assert [getattr(module, name) for module in modules for name in names] == before


def test_accelerate_streams_keeps_a_later_replacement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def another() -> None: ...

    monkeypatch.setattr(asyncio, "open_connection", asyncio.open_connection)  # what it puts back
    undo = aiopoll.accelerate_streams()
    monkeypatch.setattr(asyncio, "open_connection", another)
    undo.close()
    assert asyncio.open_connection is another


def test_whole_chunk_is_read_as_the_received_object(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        protocol, reader, writer = streams_over(Link(), loop)
        data = b"a message\n"
        for read in (reader.read(100), reader.readline(), reader.readexactly(len(data))):
            protocol.data_received(data)
            assert await read is data
        protocol.data_received(data)
        assert await reader.readexactly(2) == b"a "
        assert await reader.readline() == b"message\n"
        writer.close()

    run(loop, scenario())


def test_the_buffer_once_seen_stays_the_buffer(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        reader: Any = aiopoll.StreamReader()
        reader.feed_data(b"ab")
        assert await reader.read(1) == b"a"
        buffer = reader._buffer
        assert buffer == b"b"
        reader.feed_data(b"cd")
        assert reader._buffer is buffer
        assert buffer == b"bcd"
        buffer.clear()
        assert not reader.at_eof()
        reader.feed_data(b"new")
        assert await reader.read(10) == b"new"
        reader._buffer = bytearray(b"given")
        assert await reader.read(3) == b"giv"
        with pytest.raises(TypeError):
            reader._buffer = None
        assert repr(reader) == "<StreamReader 2 bytes>"

    run(loop, scenario())


def test_the_limit_may_be_infinite(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        for limit in (sys.maxsize, 2**80, float("inf")):
            reader: Any = aiopoll.StreamReader()
            reader._limit = limit
            assert reader._limit == limit
            reader.feed_data(b"x" * 200_000 + b"\n")
            assert len(await reader.readline()) == 200_001

    run(loop, scenario())


def test_drain_waits_while_the_transport_is_full(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        link = Link()
        protocol, _, writer = streams_over(link, loop)
        writer.write(b"x")
        await writer.drain()
        protocol.pause_writing()
        waiting = [asyncio.ensure_future(writer.drain()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [True, False, False]
        protocol.resume_writing()
        await asyncio.gather(*waiting[1:])
        assert not protocol._drain_waiters
        protocol.pause_writing()
        lost = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0)
        protocol.connection_lost(ConnectionAbortedError("gone"))
        with pytest.raises(ConnectionAbortedError, match="gone"):
            await lost
        with pytest.raises(ConnectionAbortedError, match="gone"):
            await writer.drain()  # the error that the reader has
        link.closing = True

    run(loop, scenario())


def test_drain_lets_the_loop_run_once_the_transport_closes(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def scenario() -> None:
        link = Link()
        protocol, _, writer = streams_over(link, loop)
        link.closing = True
        loop.call_soon(protocol.connection_lost, None)
        with pytest.raises(ConnectionResetError, match="Connection lost"):
            await writer.drain()

    run(loop, scenario())


def test_drain_of_another_protocol_is_asyncios(loop: asyncio.AbstractEventLoop) -> None:
    class Slow(aiopoll.StreamReaderProtocol):
        async def _drain_helper(self) -> None:
            await asyncio.sleep(0)
            raise ZeroDivisionError("expected")

    async def scenario() -> None:
        link = Link()
        mixin = asyncio_streams.FlowControlMixin()
        at_once = aiopoll.StreamWriter(link, mixin, None, loop)
        await at_once.drain()
        slow = aiopoll.StreamWriter(link, Slow(aiopoll.StreamReader()), None, loop)
        with pytest.raises(ZeroDivisionError):
            await slow.drain()
        link.closing = True

    run(loop, scenario())


@pytest.mark.usefixtures("asyncios_by_name")
def test_asyncios_and_our_classes_mix(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        ours, theirs = aiopoll.StreamReader(), asyncio.StreamReader()
        for reader, protocol_type in (
            (ours, asyncio.StreamReaderProtocol),
            (theirs, aiopoll.StreamReaderProtocol),
        ):
            link = Link()
            protocol = protocol_type(reader)
            protocol.connection_made(link)
            kinds = (asyncio.StreamWriter, aiopoll.StreamWriter)
            writers = [kind(link, protocol, reader, loop) for kind in kinds]
            for writer in writers:
                protocol.data_received(b"line\n")
                assert await reader.readline() == b"line\n"
                writer.write(b"answer")
                await writer.drain()
            assert link.written == [b"answer", b"answer"]
            link.closing = True

    run(loop, scenario())


def test_a_subclass_has_its_own_methods_called(loop: asyncio.AbstractEventLoop) -> None:
    class Loud(aiopoll.StreamReader):
        def feed_data(self, data: Any) -> None:
            super().feed_data(data.upper())

        async def readuntil(self, separator: Any = b"\n") -> bytes:
            return b"> " + await super().readuntil(separator)

    async def scenario() -> None:
        reader = Loud()
        protocol = aiopoll.StreamReaderProtocol(reader)
        waiting = asyncio.ensure_future(reader.readline())
        await asyncio.sleep(0)
        protocol.data_received(b"line\nrest")
        assert await waiting == b"> LINE\n"
        protocol.eof_received()
        assert await reader.read() == b"REST"
        assert [line async for line in reader] == []

    run(loop, scenario())


def test_data_that_arrives_without_a_reader_is_dropped(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        reader = aiopoll.StreamReader()
        protocol = aiopoll.StreamReaderProtocol(reader)
        del reader
        gc.collect()
        protocol.data_received(b"x")
        protocol.connection_lost(None)
        protocol.data_received(b"x")

    run(loop, scenario())


def test_arguments_that_are_no_numbers_are_refused(loop: asyncio.AbstractEventLoop) -> None:
    reader: Any = aiopoll.StreamReader(loop=loop)
    for wrong in ("1", 1.5, None):
        with pytest.raises(TypeError):
            reader.read(wrong)
        with pytest.raises(TypeError):
            reader.readexactly(wrong)
    reader.feed_data(b"data\n")
    assert loop.run_until_complete(reader.read(2**80)) == b"data\n"
    with pytest.raises(ValueError, match="readexactly size can not be less than zero"):
        loop.run_until_complete(reader.readexactly(-1))
    with pytest.raises(TypeError):
        reader.feed_data(5)
    with pytest.raises(TypeError):
        reader.feed_data("text")


@pytest.mark.usefixtures("asyncios_by_name")
def test_unclosed_writer_is_reported_as_in_asyncio(loop: asyncio.AbstractEventLoop) -> None:
    class Server:
        """A connection whose writer the program forgets."""

        def __init__(self, module: Any) -> None:
            self.module = module
            self.link = Link()

        def forget(self) -> list[str]:
            def connected(reader: object, writer: object) -> None: ...

            reader = self.module.StreamReader(loop=loop)
            protocol = self.module.StreamReaderProtocol(reader, connected, loop=loop)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                protocol.connection_made(self.link)
                gc.collect()
                kept = self.link.closing
                self.link.closing = True
                del protocol
                gc.collect()
            return [str(warning.message)[:9] for warning in caught] + [str(kept)]

    assert Server(aiopoll).forget() == Server(asyncio).forget()


def test_nothing_leaks_from_many_reads() -> None:
    async def scenario() -> None:
        reader: Any = aiopoll.StreamReader()
        for number in range(2000):
            if number == 1000:
                gc.collect()
                before = len(gc.get_objects())
            task = asyncio.ensure_future(reader.readline())
            await asyncio.sleep(0)
            if number % 3:
                reader.feed_data(b"12")
                reader.feed_data(b"3\n")
                assert await task == b"123\n"
            else:
                task.cancel()
                await asyncio.wait([task])
        del task
        gc.collect()
        assert len(gc.get_objects()) - before < 100

    aiopoll.run(scenario(), backend="epoll")


def test_a_transport_asks_each_protocol_that_it_gets(loop: asyncio.AbstractEventLoop) -> None:
    class Heard(aiopoll.StreamReaderProtocol):
        def data_received(self, data: bytes) -> None:
            heard.append(data)
            super().data_received(data)

    class Plain(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            heard.append(b"plain " + data)

    heard: list[bytes] = []

    async def exchange(writer: asyncio.StreamWriter, message: bytes) -> None:
        writer.write(message)
        await writer.drain()

    async def scenario() -> None:
        server = await aiopoll.start_server(echo, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            readers = [aiopoll.StreamReader() for _ in range(2)]
            transport, first = await loop.create_connection(
                lambda: aiopoll.StreamReaderProtocol(readers[0]), *address
            )
            writer = aiopoll.StreamWriter(transport, first, readers[0], loop)
            await exchange(writer, b"one")
            assert await readers[0].read(10) == b"one"
            second = Heard(readers[1])
            transport.set_protocol(second)
            await exchange(writer, b"two")
            assert await readers[1].read(10) == b"two"
            transport.set_protocol(Plain())
            await exchange(writer, b"three")
            while len(heard) < 2:
                await asyncio.sleep(0)
            transport.set_protocol(first)
            await exchange(writer, b"four")
            assert await readers[0].read(10) == b"four"
            assert heard == [b"two", b"plain three"]
            transport.close()

    run(loop, scenario())


def test_write_refused_by_the_transport_raises_in_writer(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def scenario() -> None:
        server = await aiopoll.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await aiopoll.open_connection(*server.sockets[0].getsockname())
            with pytest.raises(TypeError, match=r"data argument must be a bytes.*, not 'str'"):
                writer.write("text")  # type: ignore[arg-type]
            writer.write(b"")
            writer.write(bytearray(b"last"))
            writer.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                writer.write(b"more")
            assert await reader.read() == b"last"
            writer.close()
            await writer.wait_closed()
            reader, writer = await aiopoll.open_connection(*server.sockets[0].getsockname())
            writer.close()
            await writer.wait_closed()
            writer.write(b"to nobody")

    run(loop, scenario())


@pytest.mark.usefixtures("asyncios_by_name")
def test_error_of_client_connected_cb_is_told_as_by_asyncio(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """asyncio from 3.14 on closes the connection; before, it left that open."""

    async def told_by(start_server: Any) -> tuple[bool, bool, list[type[BaseException]]]:
        writers: list[asyncio.StreamWriter] = []
        contexts: list[dict[str, Any]] = []

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            raise ZeroDivisionError

        loop.set_exception_handler(lambda _, context: contexts.append(context))
        async with await start_server(connected, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await until(lambda: contexts)
            ended = writers[0].is_closing()
            by_name = contexts[0]["message"] == "Unhandled exception in client_connected_cb"
            writers[0].close()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        loop.set_exception_handler(None)
        return ended, by_name, [type(context["exception"]) for context in contexts]

    async def scenario() -> None:
        assert await told_by(aiopoll.start_server) == await told_by(asyncio.start_server)

    run(loop, scenario())
