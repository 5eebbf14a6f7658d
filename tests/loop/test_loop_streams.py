"""The stream transport: partial writes, errors, buffers that change."""

import asyncio
import math
import os
import socket
import struct

import pytest
from tests.support.loops import CHILD_SECONDS_MAX, until

import aiopoll


class Recorder(asyncio.Protocol):
    """Records its callbacks, and has a future for the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.told: list[str] = []
        self.data = b""
        self.lost: asyncio.Future[Exception | None] = loop.create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data

    def eof_received(self) -> None:
        self.told.append("eof")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.lost.set_result(exc)


async def connect(loop: aiopoll.EventLoop) -> tuple[Recorder, socket.socket]:
    ours, theirs = socket.socketpair()
    _, protocol = await loop.create_connection(lambda: Recorder(loop), sock=ours)
    theirs.setblocking(False)
    return protocol, theirs


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_that_does_not_fit_is_sent_later_in_order(
    loop: aiopoll.EventLoop, kind: type[bytes]
) -> None:
    async def scenario() -> None:
        protocol, theirs = await connect(loop)
        payload = bytes(range(256)) * 8192
        protocol.transport.write(kind(payload))
        protocol.transport.write(b"tail")
        assert protocol.transport.get_write_buffer_size() > 0
        assert protocol.told == ["made", "pause"]
        protocol.transport.close()
        received = b""
        while part := await loop.sock_recv(theirs, 1 << 20):
            received += part
        assert received == payload + b"tail"
        assert await protocol.lost is None
        assert protocol.told == ["made", "pause", "resume", "lost"]
        theirs.close()

    loop.run_until_complete(scenario())


def test_a_bytearray_may_be_changed_after_write(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        protocol, theirs = await connect(loop)
        payload = bytearray(b"x" * 2_000_000)
        protocol.transport.write(payload)
        payload[:] = b"y" * len(payload)
        payload.clear()  # BufferError if it were still exported
        protocol.transport.close()
        received = b""
        while part := await loop.sock_recv(theirs, 1 << 20):
            received += part
        assert received == b"x" * 2_000_000
        await protocol.lost
        theirs.close()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_for_a_full_socket_is_sent_later(loop: aiopoll.EventLoop, kind: type[bytes]) -> None:
    """The kernel takes nothing of it, though the transport's buffer is empty before it."""

    async def scenario() -> None:
        protocol, theirs = await connect(loop)
        filled = 0
        with socket.socket(
            fileno=os.dup(protocol.transport.get_extra_info("socket").fileno())
        ) as s:
            s.setblocking(False)
            try:
                while True:
                    filled += s.send(b"f" * 4096)
            except BlockingIOError:
                pass
        protocol.transport.write(kind(b"first,"))
        assert protocol.transport.get_write_buffer_size() == len(b"first,")
        protocol.transport.write(kind(b"second"))
        protocol.transport.close()
        received = b""
        while part := await loop.sock_recv(theirs, 1 << 20):
            received += part
        assert received == b"f" * filled + b"first,second"
        assert await protocol.lost is None
        theirs.close()

    loop.run_until_complete(scenario())


def test_half_close_lets_the_other_direction_go_on(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        protocol, theirs = await connect(loop)
        protocol.transport.write(b"question")
        protocol.transport.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            protocol.transport.write(b"more")
        assert await loop.sock_recv(theirs, 100) == b"question"
        assert await loop.sock_recv(theirs, 100) == b""
        await loop.sock_sendall(theirs, b"answer")
        theirs.close()
        assert await protocol.lost is None
        assert protocol.data == b"answer"
        assert protocol.told == ["made", "eof", "lost"]

    loop.run_until_complete(scenario())


def test_half_close_follows_queued_data(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        protocol, theirs = await connect(loop)
        payload = bytes(range(256)) * 8192
        protocol.transport.write(payload)
        assert protocol.transport.get_write_buffer_size() > 0
        protocol.transport.write_eof()
        received = b""
        while part := await asyncio.wait_for(loop.sock_recv(theirs, 1 << 20), 60):
            received += part
        assert received == payload
        await loop.sock_sendall(theirs, b"the other direction")
        theirs.close()
        assert await protocol.lost is None
        assert protocol.data == b"the other direction"

    loop.run_until_complete(scenario())


def test_error_of_a_reset_connection_reaches_the_protocol(loop: aiopoll.EventLoop) -> None:
    async def scenario(action: str) -> Exception | None:
        server = socket.create_server(("127.0.0.1", 0))
        _, protocol = await loop.create_connection(lambda: Recorder(loop), *server.getsockname())
        theirs, _ = server.accept()
        server.close()
        if action == "write":
            protocol.transport.pause_reading()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        while action == "write" and not protocol.lost.done():
            protocol.transport.write(b"x")
            await asyncio.sleep(0)
        return await protocol.lost

    assert isinstance(loop.run_until_complete(scenario("read")), ConnectionResetError)
    assert isinstance(loop.run_until_complete(scenario("write")), ConnectionResetError)


def test_a_paused_transport_reads_nothing(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        protocol, theirs = await connect(loop)
        protocol.transport.pause_reading()
        theirs.send(b"x")
        for _ in range(5):
            await asyncio.sleep(0)
        assert protocol.data == b""
        protocol.transport.resume_reading()
        while not protocol.data:
            await asyncio.sleep(0)
        theirs.close()
        await protocol.lost

    loop.run_until_complete(scenario())


def test_a_protocol_that_fails_loses_its_connection_only(loop: aiopoll.EventLoop) -> None:
    reports: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))

    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError("expected")

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        _, protocol = await loop.create_connection(lambda: Failing(loop), sock=ours)
        theirs.send(b"x")
        assert isinstance(await protocol.lost, ZeroDivisionError)
        theirs.close()

    loop.run_until_complete(scenario())
    assert reports[0]["message"] == "Fatal error: protocol.data_received() call failed."


@pytest.mark.slow
def test_thousands_of_reconnects_never_mix_their_data(loop: aiopoll.EventLoop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def client(number: int, address: tuple[str, int]) -> None:
        for round_ in range(100):
            reader, writer = await asyncio.open_connection(*address)
            line = f"{number}.{round_}\n".encode()
            writer.write(line)
            if round_ % 3 == 0:  # cancelled in the middle of a read
                task = asyncio.ensure_future(reader.readline())
                await asyncio.sleep(0)
                task.cancel()
            else:
                assert await reader.readline() == line
            writer.transport.abort() if round_ % 2 else writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        await asyncio.gather(*(client(number, address) for number in range(20)))
        server.close()
        await server.wait_closed()
        while loop.statistics().watched > 1:
            await asyncio.sleep(0)

    loop.run_until_complete(scenario())
    # The epoll set, the eventfd, the loop's pipe; events of cancelled polls are yet to come.
    given_back = until(lambda: loop.statistics().in_flight <= 3)
    loop.run_until_complete(asyncio.wait_for(given_back, CHILD_SECONDS_MAX))


def test_water_marks_may_be_any_number(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            for high in (1.5, math.inf, 10**30):
                transport.set_write_buffer_limits(high=high, low=0.5)
                assert transport.get_write_buffer_limits() == (0.5, high)
            transport.abort()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("loop_kind", ["aio", "epoll", "asyncio"])
def test_get_extra_info_is_that_of_asyncio_transport(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests of other programs replace the method of asyncio.Transport."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            transport, _ = await loop.create_connection(asyncio.Protocol, *address)
            extra = transport._extra  # type: ignore[attr-defined]
            assert transport.get_extra_info("peername") == extra["peername"] == address
            assert transport.get_extra_info("sockname") == extra["sockname"]
            assert transport.get_extra_info("socket").getpeername() == address
            assert transport.get_extra_info("neither", 7) == 7
            assert transport.get_extra_info("neither") is None
            with pytest.raises(KeyError):
                extra["neither"]
            extra["neither"] = 8
            assert transport.get_extra_info("neither") == 8
            monkeypatch.setattr(asyncio.Transport, "get_extra_info", lambda *args: args[1:])
            assert transport.get_extra_info("peername") == ("peername",)  # type: ignore[comparison-overlap]
            transport.abort()

    loop.run_until_complete(scenario())


def test_the_socket_of_a_closed_connection_is_a_closed_one(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            transport.abort()
            while transport.get_protocol() is not None:
                await asyncio.sleep(0)
            sock = transport.get_extra_info("socket")
            assert sock.fileno() == -1
            with pytest.raises(OSError, match="Bad file descriptor"):
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    loop.run_until_complete(scenario())


def test_flags_of_a_transport_are_bools(loop: aiopoll.EventLoop) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            for closing in (False, True):
                assert transport.is_closing() is closing
                assert transport.is_reading() is not closing
                for name in ("_paused", "_protocol_paused"):
                    assert getattr(transport, name) is False
                transport.close()
            await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_any_protocol_with_get_buffer_is_read_into(
    loop: aiopoll.EventLoop,
) -> None:
    """As in uvloop."""

    class Own(asyncio.BaseProtocol):
        def __init__(self) -> None:
            self.buffer, self.data = bytearray(4), b""

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.buffer[:nbytes]

        def eof_received(self) -> None:
            ended.set_result(None)

    ended = loop.create_future()

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        _, protocol = await loop.create_connection(Own, sock=ours)
        theirs.sendall(b"hello, ring")
        theirs.close()
        await ended
        assert protocol.data == b"hello, ring"

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("loop_kind", ["aio", "epoll", "asyncio"])
@pytest.mark.parametrize("does", ["close", "abort", "set_protocol"])
def test_get_buffer_may_change_its_connection(loop: asyncio.AbstractEventLoop, does: str) -> None:
    """The read that has begun continues, and its data goes to the current protocol."""

    class Buffered(asyncio.BufferedProtocol):
        def __init__(self, does: str) -> None:
            self.does = does

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def get_buffer(self, sizehint: int) -> bytearray:
            told.append(f"{self.does} get_buffer")
            if self.does == "set_protocol":
                self.transport.set_protocol(Buffered("nothing"))
            elif self.does != "nothing":
                getattr(self.transport, self.does)()
            return buffer

        def buffer_updated(self, nbytes: int) -> None:
            told.append(f"{self.does} {bytes(buffer[:nbytes])!r}")

        def connection_lost(self, exc: Exception | None) -> None:
            told.append(f"{self.does} lost {exc}")
            lost.set_result(None)

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        await loop.create_connection(lambda: Buffered(does), sock=ours)
        theirs.sendall(b"hello")
        theirs.close()
        await lost

    told: list[str] = []
    buffer = bytearray(8)
    lost = loop.create_future()
    loop.run_until_complete(scenario())
    reader = "nothing" if does == "set_protocol" else does
    again = [f"{reader} get_buffer"] if does == "set_protocol" else []
    assert told == [f"{does} get_buffer", f"{reader} b'hello'", *again, f"{reader} lost None"]


@pytest.mark.parametrize("loop_kind", ["aio", "epoll", "asyncio"])
def test_data_written_in_resume_writing_precedes_the_end(
    loop: asyncio.AbstractEventLoop,
) -> None:
    class Last(Recorder):
        def resume_writing(self) -> None:
            self.transport.write(b"last")
            self.told.append("resume")

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        _, protocol = await loop.create_connection(lambda: Last(loop), sock=ours)
        protocol.transport.write(bytes(1 << 20))
        protocol.transport.close()
        received = 0
        while data := await loop.sock_recv(theirs, 1 << 20):
            received += len(data)
        assert received == (1 << 20) + 4
        assert await protocol.lost is None
        assert protocol.told == ["made", "pause", "resume", "lost"]
        theirs.close()

    loop.run_until_complete(scenario())
