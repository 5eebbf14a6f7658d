"""Writes of one callback, or one turn, leave together; nobody can tell but by the system calls."""

import array
import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

import aiopoll

Connection = tuple[asyncio.Transport, socket.socket]


@pytest.fixture
def connection(loop: aiopoll.EventLoop) -> Iterator[Connection]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    yield transport, theirs
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    theirs.close()


def arrived(theirs: socket.socket) -> bytes | None:
    """What has come; None while nothing has."""
    try:
        return theirs.recv(1 << 20)
    except BlockingIOError:
        return None


def in_a_callback(loop: aiopoll.EventLoop, body: Callable[[], None]) -> None:
    async def scenario() -> None:
        body()

    loop.run_until_complete(scenario())


def test_writes_of_a_turn_wait_for_its_end(loop: aiopoll.EventLoop, connection: Connection) -> None:
    transport, theirs = connection

    def body() -> None:
        transport.write(b"one ")
        transport.write(b"two ")
        transport.writelines([b"three ", bytearray(b"four")])
        assert arrived(theirs) is None

    in_a_callback(loop, body)
    assert arrived(theirs) == b"one two three four"


def test_writes_of_data_received_wait_for_its_return(loop: aiopoll.EventLoop) -> None:
    seen: list[bytes | None] = []

    class Answer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            loop.call_soon(lambda: seen.append(arrived(theirs)))
            self.transport.write(b"head ")
            self.transport.write(b"body")
            seen.append(arrived(theirs))

    async def scenario() -> None:
        ours, peer = socket.socketpair()
        nonlocal theirs
        theirs = peer
        theirs.setblocking(False)
        transport, _ = await loop.create_connection(Answer, sock=ours)
        theirs.send(b"?")
        while len(seen) < 2:
            await asyncio.sleep(0)
        transport.close()
        theirs.close()

    theirs: socket.socket
    loop.run_until_complete(scenario())
    assert seen == [None, b"head body"]


@pytest.mark.parametrize(
    "look",
    [
        asyncio.Transport.get_write_buffer_size,
        asyncio.Transport.close,
        asyncio.Transport.abort,
        asyncio.Transport.write_eof,
    ],
    ids=lambda look: look.__name__,
)
def test_whoever_could_tell_sends_first(
    loop: aiopoll.EventLoop, connection: Connection, look: Callable[[asyncio.Transport], object]
) -> None:
    transport, theirs = connection

    def body() -> None:
        transport.write(b"now")
        assert arrived(theirs) is None
        assert not getattr(transport, look.__name__)()
        assert arrived(theirs) == b"now"

    in_a_callback(loop, body)


def test_a_tls_connection_that_is_aborted_has_sent_what_was_written(
    loop: aiopoll.EventLoop, connection: Connection
) -> None:
    """sslproto ends its carrier by a private name."""
    transport, theirs = connection

    def body() -> None:
        transport.write(b"record")
        transport._force_close(None)  # type: ignore[attr-defined]
        assert arrived(theirs) == b"record"

    in_a_callback(loop, body)


def test_more_than_the_high_water_mark_goes_at_once(
    loop: aiopoll.EventLoop, connection: Connection
) -> None:
    transport, theirs = connection
    transport.set_write_buffer_limits(high=5)

    def body() -> None:
        transport.write(b"12345")
        assert arrived(theirs) is None
        transport.write(b"6")
        assert arrived(theirs) == b"123456"

    in_a_callback(loop, body)


def test_a_write_outside_the_loop_goes_at_once(connection: Connection) -> None:
    transport, theirs = connection
    transport.write(b"not running")
    assert arrived(theirs) == b"not running"


def test_a_broken_connection_is_noticed_at_the_end_of_the_turn(loop: aiopoll.EventLoop) -> None:
    lost: asyncio.Future[Exception | None] = loop.create_future()

    class Lost(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(exc)

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(Lost, sock=ours)
        transport.pause_reading()
        theirs.close()
        transport.write(b"into the void")
        assert isinstance(await lost, BrokenPipeError)
        assert transport.is_closing()

    loop.run_until_complete(scenario())


def test_what_the_owner_changes_was_written_before(
    loop: aiopoll.EventLoop, connection: Connection
) -> None:
    transport, theirs = connection
    data = bytearray(b"before")

    def body() -> None:
        transport.write(b"first ")
        transport.write(data)
        data[:] = b"after!"

    in_a_callback(loop, body)
    assert arrived(theirs) == b"first before"


def test_writelines_takes_any_buffer(loop: aiopoll.EventLoop, connection: Connection) -> None:
    transport, theirs = connection
    transport.writelines(part for part in (array.array("H", b"abcd"), memoryview(b"-e-f")[1::2]))
    assert arrived(theirs) == b"abcdef"


def test_writelines_writes_all_or_nothing(loop: aiopoll.EventLoop, connection: Connection) -> None:
    transport, theirs = connection

    def parts() -> Iterator[bytes]:
        yield b"one"
        raise LookupError

    with pytest.raises(TypeError):
        transport.writelines([b"one", "two"])  # type: ignore[list-item]
    with pytest.raises(LookupError):
        transport.writelines(parts())
    assert arrived(theirs) is None


@pytest.mark.parametrize("size", [10, 10_000])
def test_every_second_byte_can_be_written(connection: Connection, size: int) -> None:
    transport, theirs = connection
    transport.write(memoryview(b"-x" * size)[1::2])
    assert arrived(theirs) == b"x" * size
