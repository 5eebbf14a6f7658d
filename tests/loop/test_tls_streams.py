"""TLS over sockets with small buffers: nothing lost, nothing twice, nothing kept."""

import asyncio
import gc
import shutil
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tls import TLS_VERSIONS, tls_contexts

import aiopoll
from aiopoll.loop.transports import tls

SECONDS_MAX = 30


class Side(asyncio.Protocol):
    """Writes its parts, and keeps the data received."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()
        self.came = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.came.set()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def connection_lost(self, error: Any) -> None:
        self.room.set()
        self.came.set()
        self.lost.set_result(error)

    async def write(self, parts: list[bytes]) -> None:
        for part in parts:
            await self.room.wait()
            self.transport.write(part)

    async def received(self, size: int) -> None:
        while len(self.data) < size and not self.lost.done():
            self.came.clear()
            await self.came.wait()


class BufferedSide(Side, asyncio.BufferedProtocol):
    def get_buffer(self, hint: int) -> Any:
        self.buffer = bytearray(777)
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.data_received(self.buffer[:count])


async def connected(
    version: str, kinds: tuple[type[Side], type[Side]], start_tls: bool, limit: int
) -> tuple[Side, Side]:
    """A server's side and a client's."""
    loop = asyncio.get_running_loop()
    server_context, client_context = tls_contexts(version)
    sockets = socket.socketpair()
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        sock.setblocking(False)
    sides = kinds[0](), kinds[1]()
    if start_tls:
        plain = [asyncio.Protocol() for _ in sides]
        made = [
            await loop.create_connection(lambda one=one: one, sock=sock)  # type: ignore[misc]
            for one, sock in zip(plain, sockets, strict=True)
        ]
        upgraded = await asyncio.gather(
            loop.start_tls(made[0][0], sides[0], server_context, server_side=True),
            loop.start_tls(made[1][0], sides[1], client_context, server_hostname="localhost"),
        )
        for side, transport in zip(sides, upgraded, strict=True):
            side.connection_made(transport)
    else:
        await asyncio.gather(
            loop.connect_accepted_socket(lambda: sides[0], sockets[0], ssl=server_context),
            loop.create_connection(
                lambda: sides[1], sock=sockets[1], ssl=client_context, server_hostname="localhost"
            ),
        )
    for side in sides:
        side.transport.set_write_buffer_limits(limit)
    return sides


async def talk(
    version: str, kinds: Any, start_tls: bool, limit: int, parts: Any, abort: bool
) -> None:
    """Both write; the server's side closes once it has got all, its own data still on the way."""
    server, client = await connected(version, kinds, start_tls, limit)
    sent = [b"".join(of_side) for of_side in parts]
    writing = [
        asyncio.create_task(s.write(p)) for s, p in zip((server, client), parts, strict=True)
    ]
    if not abort:
        await server.received(len(sent[1]))
        await writing[0]
        server.transport.close()
    else:
        await server.received(len(sent[1]) // 2)
        server.transport.abort()
    await asyncio.gather(server.lost, client.lost, *writing)
    if abort:
        assert sent[1].startswith(server.data)
        assert sent[0].startswith(client.data)
    else:
        assert server.data == sent[1]
        assert client.data == sent[0]


PARTS = st.lists(
    st.tuples(st.integers(0, 255), st.sampled_from([0, 1, 7, 500, 2000, 16384, 16385, 70000])).map(
        lambda part: bytes([part[0]]) * part[1]
    ),
    max_size=6,
)


@pytest.mark.parametrize("backend", ["aio", "epoll"])
@pytest.mark.parametrize("version", TLS_VERSIONS)
def test_written_data_arrives_whole_or_as_a_prefix(version: str, backend: str) -> None:
    @settings(max_examples=30, deadline=None)
    @given(
        kinds=st.tuples(*[st.sampled_from([Side, BufferedSide])] * 2),
        start_tls=st.booleans(),
        limit=st.sampled_from([1, 100, 10_000]),
        parts=st.tuples(PARTS, PARTS),
        abort=st.booleans(),
    )
    def check(kinds: Any, start_tls: bool, limit: int, parts: Any, abort: bool) -> None:
        runner.run(
            asyncio.wait_for(talk(version, kinds, start_tls, limit, parts, abort), SECONDS_MAX)
        )

    with asyncio.Runner(loop_factory=lambda: aiopoll.new_event_loop(backend=backend)) as runner:
        check()


def test_tls_transport_is_compiled_on_known_asyncio() -> None:
    async def main() -> None:
        for start_tls in (False, True):
            sides = await connected("1.3", (Side, Side), start_tls, 10_000)
            for side in sides:
                compiled = isinstance(side.transport, tls.SSLTransport)
                assert compiled == tls.compiled
                side.transport.abort()
            await asyncio.gather(*(side.lost for side in sides))

    assert tls.compiled
    aiopoll.run(main())


def test_an_unknown_asyncio_is_left_alone() -> None:
    class Changed(asyncio.sslproto.SSLProtocol):
        def _do_write(self) -> None:
            self._something_new()  # type: ignore[attr-defined]

    assert tls.is_known() == tls.compiled
    assert not tls.is_known(Changed)


@pytest.mark.skipif(not tls.compiled, reason="asyncio's SSLProtocol is another one here")
def test_a_connection_has_no_read_buffer_of_its_own() -> None:
    async def main() -> None:
        server, client = await connected("1.3", (Side, Side), False, 10_000)
        client.transport.write(b"x" * 70000)
        await server.received(70000)
        for side in (server, client):
            assert len(side.transport._ssl_protocol._ssl_buffer) == 0
            side.transport.abort()
        await asyncio.gather(server.lost, client.lost)

    aiopoll.run(main())


@pytest.mark.slow
def test_a_thousand_connections_leave_nothing_behind() -> None:
    async def connections(count: int) -> None:
        for i in range(count):
            server, client = await connected("1.3", (Side, BufferedSide), i % 2 == 0, 10_000)
            client.transport.write(b"x" * 3000)
            await server.received(3000)
            (client.transport.close if i % 3 else client.transport.abort)()
            await asyncio.gather(server.lost, client.lost)

    with asyncio.Runner(loop_factory=aiopoll.new_event_loop) as runner:
        runner.run(connections(50))
        gc.collect()
        before, objects_before = sys.getallocatedblocks(), len(gc.get_objects())
        runner.run(connections(1000))
        gc.collect()
        assert len(gc.get_objects()) - objects_before < 300
        assert sys.getallocatedblocks() - before < 1000


@pytest.mark.parametrize("package", [asyncio, aiopoll])
def test_client_may_begin_the_handshake_before_the_server(package: Any) -> None:
    """As on asyncio from 3.14 on; before, the ClientHello stayed in the reader."""

    async def upgraded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        while not reader._buffer:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        await writer.start_tls(tls_contexts()[0])
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with await package.start_server(upgraded, "127.0.0.1", 0) as server:
            reader, writer = await package.open_connection(*server.sockets[0].getsockname())
            writer.write(b"STARTTLS\n")
            await writer.start_tls(tls_contexts()[1], server_hostname="localhost")
            writer.write(b"over TLS\n")
            assert await reader.read() == b"over TLS\n"
            writer.close()
            await writer.wait_closed()

    aiopoll.run(asyncio.wait_for(main(), SECONDS_MAX))


FLOOD = 4 << 20  # bytes, far more than are in flight when a transport pauses


async def paused_in_time(reader: Any, carrier: Any) -> bool:
    """Whether the connection pauses before all has been taken."""
    while carrier.is_reading() and len(reader._buffer) < FLOOD:
        await asyncio.sleep(0)
    return len(reader._buffer) < FLOOD


@pytest.mark.parametrize("backend", ["aio", "epoll"])
@pytest.mark.parametrize("package", [asyncio, aiopoll])
@pytest.mark.parametrize("full", ["server", "client"])
def test_reader_full_before_start_tls_pauses_after_it(
    full: str, package: Any, backend: str
) -> None:
    """asyncio's stays full, and takes all data that comes."""
    server_context, client_context = tls_contexts()

    async def flooded(
        reader: Any, writer: asyncio.StreamWriter, *args: Any, **options: Any
    ) -> bool:
        while not reader._paused:
            await asyncio.sleep(0)
        carrier = writer.transport
        await writer.start_tls(*args, **options)
        in_time = await paused_in_time(reader, carrier)
        writer.transport.abort()
        return in_time

    async def flood(writer: asyncio.StreamWriter, *args: Any, **options: Any) -> None:
        await writer.start_tls(*args, **options)
        writer.write(bytes(FLOOD))
        try:
            await writer.drain()
            await writer.wait_closed()
        except OSError:
            pass  # the other end has seen enough
        writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: asyncio.Future[bool] = loop.create_future()
        ended: asyncio.Future[None] = loop.create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if full == "server":  # of the ClientHello
                seen.set_result(await flooded(reader, writer, server_context))
            else:
                writer.write(bytes(1000))
                await flood(writer, server_context)
            ended.set_result(None)

        async with await package.start_server(serve, "127.0.0.1", 0, limit=64) as server:
            address = server.sockets[0].getsockname()
            reader, writer = await package.open_connection(*address, limit=64)
            named: dict[str, Any] = {"server_hostname": "localhost"}
            if full == "server":
                await flood(writer, client_context, **named)
            else:
                seen.set_result(await flooded(reader, writer, client_context, **named))
            await ended
            assert await seen

    aiopoll.run(asyncio.wait_for(main(), SECONDS_MAX), backend=backend)


def test_start_tls_answers_before_the_first_data_comes() -> None:
    """As in uvloop: else the reply to it would go out in plain text, by the old transport."""

    class Upgrading(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.upgraded = asyncio.ensure_future(self.upgrade())

        async def upgrade(self) -> None:
            loop = asyncio.get_running_loop()
            self.transport = await loop.start_tls(
                self.transport, self, tls_contexts()[0], server_side=True
            )

        def data_received(self, data: bytes) -> None:
            assert self.upgraded.done()
            self.transport.write(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol = Upgrading()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = tls_contexts()[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, server.sockets[0].getsockname())

            async def done(call: Callable[[], Any]) -> Any:
                while True:
                    try:
                        return call()
                    except ssl.SSLWantReadError:
                        await loop.sock_sendall(sock, outgoing.read())
                        incoming.write(await loop.sock_recv(sock, 65536))

            await done(client.do_handshake)
            client.write(b"with the last of the handshake")
            assert await done(lambda: client.read(1024)) == b"with the last of the handshake"
        server.close()

    aiopoll.run(asyncio.wait_for(main(), SECONDS_MAX))


@pytest.mark.parametrize("version", TLS_VERSIONS)
def test_data_that_comes_after_close_is_dropped(version: str) -> None:
    """As in uvloop; asyncio ends the connection with APPLICATION_DATA_AFTER_CLOSE_NOTIFY."""

    class Endless(Side):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"x" * 1_000_000)

        def resume_writing(self) -> None:
            self.transport.write(b"x" * 1_000_000)

    reports: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        server_context, client_context = tls_contexts(version)
        server = await loop.create_server(Endless, "127.0.0.1", 0, ssl=server_context)
        for _ in range(5):
            transport, protocol = await loop.create_connection(
                Side,
                *server.sockets[0].getsockname(),
                ssl=client_context,
                server_hostname="localhost",
            )
            await protocol.received(100_000)
            transport.close()
            assert await protocol.lost is None
        server.close()

    aiopoll.run(asyncio.wait_for(main(), SECONDS_MAX))
    assert not reports


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("run", [asyncio.run, aiopoll.run], ids=["asyncio", "aiopoll"])
def test_end_of_tls_is_an_eof_while_the_connection_is_open(version: str, run: Any) -> None:
    """The other side sends close_notify, and waits for ours."""
    told: list[bytes | str] = []

    class Told(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            told.append(data)

        def eof_received(self) -> None:
            told.append("eof")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server_context, client_context = tls_contexts(version)
        server = await loop.create_server(Told, "127.0.0.1", 0, ssl=server_context)
        address = server.sockets[0].getsockname()

        def client() -> socket.socket:
            plain = socket.create_connection(address, timeout=SECONDS_MAX)
            secure = client_context.wrap_socket(plain, server_hostname="localhost")
            secure.sendall(b"data")
            return secure.unwrap()

        still_open = await loop.run_in_executor(None, client)
        assert told == [b"data", "eof"]
        still_open.close()
        server.close()

    run(asyncio.wait_for(main(), SECONDS_MAX))


def test_any_protocol_with_get_buffer_is_read_into() -> None:
    class Own(asyncio.BaseProtocol):
        def __init__(self) -> None:
            self.buffer, self.data = bytearray(4), b""
            self.lost = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.buffer[:nbytes]

        def eof_received(self) -> None:
            pass

        def connection_lost(self, error: Exception | None) -> None:
            self.lost.set_result(error)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello, ring")
        writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls_contexts()[0])
        _, protocol = await loop.create_connection(
            Own,
            *server.sockets[0].getsockname(),
            ssl=tls_contexts()[1],
            server_hostname="localhost",
        )
        assert await protocol.lost is None
        assert protocol.data == b"hello, ring"
        server.close()

    aiopoll.run(asyncio.wait_for(main(), SECONDS_MAX))


@pytest.mark.subprocess
@pytest.mark.skipif(not shutil.which("openssl"), reason="skips.toml: TLS key updates")
def test_data_after_a_key_update_is_read_and_answered() -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data.upper())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=tls_contexts()[0])
        host, port = server.sockets[0].getsockname()
        client = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_3"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        # K asks for an update of both sides' keys, k announces one of its own.
        for command, text in ((b"", b"one"), (b"K\n", b"two"), (b"k\n", b"three"), (b"K\n", b"4")):
            if command:
                client.stdin.write(command)
                assert client.stderr is not None
                while b"KEYUPDATE" not in await client.stderr.readline():
                    pass
            client.stdin.write(b"<" + text + b">\n")
            while b"<" + text.upper() + b">" not in await client.stdout.readline():
                pass
        client.stdin.write(b"Q\n")
        await client.communicate()
        server.close()

    aiopoll.run(asyncio.wait_for(main(), SECONDS_MAX))
