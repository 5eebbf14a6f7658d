"""The websockets package, server and client, on a loop of ours."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve, unix_serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from .conftest import Tls
from .harness import run_clean, running_loop

pytestmark = pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])

OPTIONS: dict[str, Any] = {"max_size": None, "ping_interval": None, "compression": None}


async def echo(connection: ServerConnection) -> None:
    running_loop()
    async for message in connection:
        await connection.send(message)


class Pair:
    """Starts servers and connects to them, under TLS if asked to."""

    def __init__(self, secure: bool, tls: Tls) -> None:
        self.server_tls = tls.server if secure else None
        self.client_tls = tls.client if secure else None
        self.scheme = "wss" if secure else "ws"

    def serve(self, handler: Callable[[ServerConnection], Any]) -> serve:
        return serve(handler, "127.0.0.1", 0, ssl=self.server_tls, **OPTIONS)

    def connect(self, server: Server) -> connect:
        port = next(iter(server.sockets)).getsockname()[1]
        return connect(f"{self.scheme}://127.0.0.1:{port}", ssl=self.client_tls, **OPTIONS)


@pytest.fixture
def pair(secure: bool, tls: Tls) -> Pair:
    return Pair(secure, tls)


@contextlib.asynccontextmanager
async def connected(
    pair: Pair, handler: Callable[[ServerConnection], Any]
) -> AsyncIterator[ClientConnection]:
    async with pair.serve(handler) as server, pair.connect(server) as client:
        yield client


def test_large_messages_and_fragments_come_back(backend: str, pair: Pair) -> None:
    async def main() -> None:
        async with connected(pair, echo) as client:
            for message in (b"", "é" * 100_000, bytes(range(256)) * 32_768):
                await client.send(message)
                assert await client.recv() == message
            await client.send(["many ", "fragments ", "one message"])
            assert await client.recv() == "many fragments one message"

    run_clean(main, backend)


def test_pings_are_answered_both_ways(backend: str, pair: Pair) -> None:
    async def main() -> None:
        async def ping_back(connection: ServerConnection) -> None:
            assert await (await connection.ping(b"server")) >= 0
            await connection.send("pinged")
            await connection.wait_closed()

        async with connected(pair, ping_back) as client:
            assert await (await client.ping(b"client")) >= 0
            assert await client.recv() == "pinged"

    run_clean(main, backend)


def test_close_codes_reach_the_other_end(backend: str, pair: Pair) -> None:
    async def main() -> None:
        seen: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

        async def handler(connection: ServerConnection) -> None:
            if await connection.recv() == "close":
                await connection.close(4001, "told so")
                return
            await connection.wait_closed()
            await seen.put((connection.close_code, connection.close_reason))

        async with pair.serve(handler) as server:
            async with pair.connect(server) as client:
                await client.send("close")
                with pytest.raises(ConnectionClosedError) as error:
                    await client.recv()
                assert error.value.rcvd is not None
                assert (error.value.rcvd.code, error.value.rcvd.reason) == (4001, "told so")
            async with pair.connect(server) as client:
                await client.send("stay")
                await client.close(4002, "I leave")
            assert await seen.get() == (4002, "I leave")
            async with pair.connect(server) as client:
                await client.send("stay")
                client.transport.abort()  # no close frame: 1006
            assert await seen.get() == (1006, "")

    run_clean(main, backend)


def test_server_that_closes_notifies_its_clients(backend: str, pair: Pair) -> None:
    async def main() -> None:
        async with pair.serve(echo) as server:
            clients = [await pair.connect(server) for _ in range(20)]
            server.close()
            for client in clients:
                with pytest.raises(ConnectionClosedOK):
                    await client.recv()
                assert client.close_code == 1001
            await server.wait_closed()

    run_clean(main, backend)


def test_a_broadcast_reaches_every_client(backend: str, pair: Pair) -> None:
    async def main() -> None:
        connections: set[ServerConnection] = set()
        all_there = asyncio.Event()

        async def handler(connection: ServerConnection) -> None:
            connections.add(connection)
            if len(connections) == 50:
                all_there.set()
            await connection.wait_closed()

        async with pair.serve(handler) as server:
            clients = await asyncio.gather(*(pair.connect(server) for _ in range(50)))
            await all_there.wait()
            for number in range(20):
                broadcast(connections, f"news {number}")
            for client in clients:
                assert [await client.recv() for _ in range(20)] == [f"news {n}" for n in range(20)]
            await asyncio.gather(*(client.close() for client in clients))

    run_clean(main, backend)


def test_a_reader_that_does_not_read_holds_its_writer_back(backend: str, pair: Pair) -> None:
    message = b"x" * 1_000_000

    async def main() -> None:
        sent = 0

        async def flood(connection: ServerConnection) -> None:
            nonlocal sent
            for _ in range(100):
                await connection.send(message)
                sent += 1

        async with connected(pair, flood) as client:
            for _ in range(2000):  # iterations enough for all of it, if nothing held it back
                await asyncio.sleep(0)
            assert sent < 100
            assert client.transport.get_write_buffer_size() == 0
            for _ in range(100):
                assert len(await client.recv()) == len(message)

    run_clean(main, backend)


def test_messages_over_a_unix_socket(
    backend: str, secure: bool, tls: Tls, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = str(tmp_path_factory.mktemp("socket") / "s")

    async def main() -> None:
        client_options = {"ssl": tls.client, "server_hostname": "localhost"} if secure else {}
        async with (
            unix_serve(echo, path, ssl=tls.server if secure else None),
            unix_connect(path, **client_options) as client,
        ):
            await client.send("here")
            assert await client.recv() == "here"

    run_clean(main, backend)
