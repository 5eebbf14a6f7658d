"""asyncio's names give compiled streams on our loops, and asyncio's own everywhere else."""

import asyncio
import inspect
import subprocess
import sys
from asyncio import open_connection, start_server, streams
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tests.support.loops import CHILD_SECONDS_MAX
from tests.support.streams import Link

import aiopoll

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(params=["auto", "aio", "epoll"])
def ours(request: pytest.FixtureRequest) -> Any:
    loop = aiopoll.new_event_loop(backend=request.param)
    yield loop
    loop.close()


async def ends(
    start: Callable[..., Awaitable[asyncio.Server]], connect: Callable[..., Awaitable[Streams]]
) -> list[type]:
    """The classes of both ends of a connection, over which a line has gone."""
    servers: list[type] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        servers.extend((type(reader), type(writer)))
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await start(echo)
    async with server:
        reader, writer = await connect(server.sockets[0].getsockname())
        clients = [type(reader), type(writer), type(writer.transport.get_protocol())]
        writer.write(b"line\n")
        assert await reader.read() == b"line\n"
        writer.close()
        await writer.wait_closed()
    return servers + clients


async def tcp_ends() -> list[type]:
    return await ends(
        lambda echo: start_server(echo, "127.0.0.1", 0),
        lambda address: open_connection(*address),
    )


COMPILED: list[type] = [
    *(aiopoll.StreamReader, aiopoll.StreamWriter),
    *(aiopoll.StreamReader, aiopoll.StreamWriter, aiopoll.StreamReaderProtocol),
]
PLAIN: list[type] = [
    *(asyncio.StreamReader, asyncio.StreamWriter),
    *(asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamReaderProtocol),
]


def test_tcp_by_functions_imported_before(ours: asyncio.AbstractEventLoop) -> None:
    assert ours.run_until_complete(tcp_ends()) == COMPILED


def test_unix(ours: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    async def scenario() -> list[type]:
        return await ends(
            lambda echo: asyncio.start_unix_server(echo, tmp_path / "s"),
            asyncio.open_unix_connection,
        )

    assert ours.run_until_complete(scenario()) == COMPILED


def test_loops_that_are_not_ours_keep_asyncios(ours: asyncio.AbstractEventLoop) -> None:
    assert ours.run_until_complete(tcp_ends()) == COMPILED
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(tcp_ends()) == PLAIN
        reader = asyncio.StreamReader(loop=runner.get_loop())
        assert type(reader) is asyncio.StreamReader
    assert ours.run_until_complete(tcp_ends()) == COMPILED


def test_a_loop_can_decline_them() -> None:
    assert aiopoll.run(tcp_ends(), compiled_streams=False) == PLAIN
    assert aiopoll.run(tcp_ends()) == COMPILED


def test_a_loop_is_one_that_runs_or_is_given(ours: asyncio.AbstractEventLoop) -> None:
    async def without_its_name() -> type:
        return type(asyncio.StreamReader())

    assert type(asyncio.StreamReader(loop=ours)) is aiopoll.StreamReader
    assert type(asyncio.StreamReader(100, ours)) is aiopoll.StreamReader
    assert ours.run_until_complete(without_its_name()) is aiopoll.StreamReader
    stranger = mock.Mock()
    assert type(asyncio.StreamReader(loop=stranger)) is asyncio.StreamReader


def test_subprocess_output(ours: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('out')", stdout=asyncio.subprocess.PIPE
        )
        assert type(process.stdout) is aiopoll.StreamReader
        assert await process.stdout.readline() == b"out\n"
        assert await process.wait() == 0

    ours.run_until_complete(scenario())


def test_streams_made_by_hand(ours: asyncio.AbstractEventLoop) -> None:
    link = Link()
    reader = asyncio.StreamReader(loop=ours)
    protocol = asyncio.StreamReaderProtocol(reader, loop=ours)
    assert type(protocol) is aiopoll.StreamReaderProtocol
    by_keyword = asyncio.StreamReaderProtocol(stream_reader=reader, loop=ours)
    assert type(by_keyword) is aiopoll.StreamReaderProtocol
    writer = asyncio.StreamWriter(link, protocol, reader, ours)
    assert type(writer) is aiopoll.StreamWriter
    protocol.connection_made(link)
    protocol.data_received(b"abc")
    assert ours.run_until_complete(reader.readexactly(3)) == b"abc"
    writer.write(b"x")
    assert link.written == [b"x"]
    link.closing = True


def test_no_compiled_stream_over_one_that_is_not(ours: asyncio.AbstractEventLoop) -> None:
    class Reader(asyncio.StreamReader):
        pass

    class Protocol(asyncio.StreamReaderProtocol):
        pass

    link = Link()
    link.closing = True
    reader = Reader(loop=ours)
    protocol = asyncio.StreamReaderProtocol(reader, loop=ours)
    assert type(reader) is Reader
    assert type(protocol) is asyncio.StreamReaderProtocol
    special = Protocol(asyncio.StreamReader(loop=ours), loop=ours)
    for other in (protocol, special, streams.FlowControlMixin(ours)):
        writer = asyncio.StreamWriter(link, other, None, ours)
        assert type(writer) is asyncio.StreamWriter


def test_a_replaced_method_is_called(ours: asyncio.AbstractEventLoop) -> None:
    """A tool that wraps a method of asyncio's class sees each call of a reader made then."""
    for _ in range(2):
        with mock.patch.object(asyncio.StreamReader, "readline", autospec=True) as readline:
            readline.return_value = b"patched"
            reader = asyncio.StreamReader(loop=ours)
            reader.feed_data(b"fed\n")
            assert ours.run_until_complete(reader.readline()) == b"patched"
            readline.assert_called_once_with(reader)
            assert ours.run_until_complete(tcp_ends_patched()) is asyncio.StreamReader
        assert type(asyncio.StreamReader(loop=ours)) is aiopoll.StreamReader
    with mock.patch.object(asyncio.StreamWriter, "drain"):
        reader = asyncio.StreamReader(loop=ours)
        protocol = asyncio.StreamReaderProtocol(reader, loop=ours)
        link = Link()
        link.closing = True
        assert type(asyncio.StreamWriter(link, protocol, reader, ours)) is asyncio.StreamWriter


def succeeds(program: str) -> None:
    """Runs it in a Python of its own."""
    command = [sys.executable, "-W", "error", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_SECONDS_MAX)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("name", ["write", "drain"])
def test_a_replaced_method_is_called_on_a_server(
    ours: asyncio.AbstractEventLoop, name: str
) -> None:
    original = getattr(asyncio.StreamWriter, name)
    seen: list[asyncio.StreamWriter] = []

    def counting(writer: asyncio.StreamWriter, *args: Any) -> Any:
        seen.append(writer)
        return original(writer, *args)

    with mock.patch.object(asyncio.StreamWriter, name, counting):
        ours.run_until_complete(tcp_ends())
    assert len(seen) == (2 if name == "write" else 1)


def test_a_replaced_class_is_made_where_asyncio_makes_it(ours: asyncio.AbstractEventLoop) -> None:
    class Counted(asyncio.StreamWriter):
        made = 0

        def __init__(self, *args: Any) -> None:
            Counted.made += 1
            super().__init__(*args)

    with mock.patch.object(streams, "StreamWriter", Counted):
        ours.run_until_complete(tcp_ends())
    assert Counted.made == 2


def test_signatures_are_asyncios(ours: asyncio.AbstractEventLoop) -> None:
    class Own(asyncio.StreamReader):
        def __init__(self, name: str) -> None:
            super().__init__(loop=ours)

    class Plain(asyncio.StreamReader):
        pass

    for kind in (asyncio.StreamReader, Plain):
        assert str(inspect.signature(kind)) == "(limit=65536, loop=None)"
    assert list(inspect.signature(asyncio.StreamWriter).parameters) == [
        *("transport", "protocol", "reader", "loop"),
    ]
    assert list(inspect.signature(Own).parameters) == ["name"]
    assert inspect.signature(ours.create_task) == inspect.signature(
        asyncio.SelectorEventLoop.create_task.__get__(ours)
    )


PATCHED_AT_FIRST = """
import asyncio
from unittest import mock
import aiopoll

class Other(asyncio.StreamWriter):
    pass

async def main():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    with mock.patch("asyncio.StreamReader"), mock.patch("asyncio.StreamWriter", Other):
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line\\n")
        assert await reader.read() == b"line\\n"
        writer.close()
        await writer.wait_closed()
        server.close()
    assert type(writer) is aiopoll.StreamWriter
    assert Other not in type(writer).__mro__

aiopoll.run(main())
"""


def test_the_first_stream_is_made_while_names_are_patched() -> None:
    """asyncio's functions use the names of asyncio.streams, whatever asyncio's are."""
    succeeds(PATCHED_AT_FIRST)


async def tcp_ends_patched() -> type:
    """The class of a reader of asyncio's function."""
    async with await start_server(lambda *ends: ends[1].close(), "127.0.0.1", 0) as server:
        reader, writer = await open_connection(*server.sockets[0].getsockname())
        writer.close()
        await writer.wait_closed()
        return type(reader)


REPLACED_BEFORE = """
import asyncio

calls = []
asyncios_read = asyncio.StreamReader.read
async def read(self, n=-1):
    calls.append(n)
    return await asyncios_read(self, n)
asyncio.StreamReader.read = read

import aiopoll

async def main():
    reader = asyncio.StreamReader()
    reader.feed_data(b"abc")
    assert await reader.read(2) == b"ab"
    assert calls == [2], calls
    assert type(reader) is asyncio.StreamReader
    asyncio.StreamReader.read = asyncios_read
    assert type(asyncio.StreamReader()) is aiopoll.StreamReader

aiopoll.run(main())
"""


def test_a_method_replaced_before_our_import() -> None:
    succeeds(REPLACED_BEFORE)


def test_a_loop_is_made_without_the_compiled_classes() -> None:
    """They are imported with the first stream: a program that has none starts without."""
    succeeds(
        "import sys, asyncio, aiopoll\n"
        "aiopoll.run(asyncio.sleep(0))\n"
        "assert 'aiopoll.loop.streams.streams' not in sys.modules\n"
    )


def test_subclasses_are_made_as_before(ours: asyncio.AbstractEventLoop) -> None:
    class Limited(asyncio.StreamReader):
        def __init__(self, name: str, *, loop: Any) -> None:
            super().__init__(limit=10, loop=loop)
            self.name = name

    class WithBase(asyncio.StreamReader, dict):  # type: ignore[type-arg,misc]
        pass

    class WithNew(asyncio.StreamReader):
        def __new__(cls, *args: Any, **options: Any) -> "WithNew":
            return super().__new__(cls)

    assert Limited("a", loop=ours).name == "a"
    assert Limited("a", loop=ours)._limit == 10  # type: ignore[attr-defined]
    for kind in (WithBase, WithNew):
        reader = kind(loop=ours)
        assert type(reader) is kind
        reader.feed_data(b"abc")
        assert ours.run_until_complete(reader.readexactly(3)) == b"abc"


@pytest.mark.parametrize("kind", [asyncio.StreamReader, asyncio.StreamReaderProtocol])
def test_wrong_arguments_raise(ours: asyncio.AbstractEventLoop, kind: Any) -> None:
    """Each by the constructor, with the name of its class, not by what chooses the class."""
    for args, options in (
        ((1, 2, 3, 4, 5, 6), {}),
        ((1, 2, 3, 4, 5, 6), {"loop": ours}),
        ((1, ours, 3, 4), {}),
        ((), {"no_such": 1, "loop": ours}),
    ):
        with pytest.raises(TypeError, match=r"__init__\(\)"):
            kind(*args, **options)
    with pytest.raises(ValueError, match="Limit cannot be <= 0"):
        asyncio.StreamReader(0, ours)
