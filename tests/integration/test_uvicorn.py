"""uvicorn as its own process, with `--loop aiopoll:new_event_loop`, and a Starlette application.

uvicorn takes a loop factory by name from 0.36 on.  The clients are on a loop of ours, too.
"""

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import websockets

from .children import Child, python
from .conftest import Tls
from .harness import BACKENDS, run_clean

pytestmark = pytest.mark.subprocess

OURS = "aiopoll.loop.event_loop.EventLoop"
LOOP = ["--loop", "aiopoll:new_event_loop"]
KINDS = {
    "h11": ["--http", "h11", "--ws", "websockets-sansio"],
    "httptools": ["--http", "httptools", "--ws", "wsproto"],
}


def uvicorn(*arguments: str) -> list[str | Path]:
    app = ["--app-dir", str(Path(__file__).parent), "asgi_app:app"]
    return python("-m", "uvicorn", *app, *LOOP, "--no-access-log", *arguments)


@dataclass(frozen=True)
class Server:
    backend: str
    url: str
    client: dict[str, object]

    @property
    def loop(self) -> str:
        return f"{OURS} {self.backend}"


def address_of(child: Child) -> str:
    return child.wait_for("Uvicorn running on").split()[4]


@pytest.fixture(
    scope="module", params=[(b, kind) for b in BACKENDS for kind in (*KINDS, "tls")], ids="-".join
)
def server(request: pytest.FixtureRequest, tls: Tls) -> Iterator[Server]:
    """One server for each way to run it; it must end clean at SIGINT."""
    backend, kind = request.param
    options = KINDS.get(kind, KINDS["httptools"])
    secure = ["--ssl-certfile", str(tls.certificate), "--ssl-keyfile", str(tls.key)]
    child = Child(
        uvicorn("--port", "0", *options, *(secure if kind == "tls" else [])),
        {"AIOPOLL_BACKEND": backend},
    )
    try:
        yield Server(backend, address_of(child), {"verify": tls.client})
        assert child.finish(signal.SIGINT) == 0, child.output
        child.wait_for(f"lifespan starts on {OURS} {backend}")
        child.wait_for(f"lifespan ends on {OURS} {backend}")
        child.check_quiet()
    finally:
        child.kill()


def test_its_loop_is_ours(server: Server) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(**server.client) as client:
            answer = (await client.get(f"{server.url}/about")).json()
            assert answer["loop"] == server.loop
            assert (await client.get(f"{server.url}/blocking")).text == "from a thread"

    run_clean(main, server.backend)


def test_big_bodies_stream_in_and_out(server: Server) -> None:
    expected = [bytes([97 + number % 26]) * 100_000 for number in range(50)]

    async def body() -> AsyncIterator[bytes]:
        for part in expected:
            yield part

    async def main() -> None:
        async with httpx.AsyncClient(**server.client) as client:
            answer = await client.post(f"{server.url}/digest", content=body())
            assert answer.text == hashlib.sha256(b"".join(expected)).hexdigest()
            async with client.stream("GET", f"{server.url}/parts/50") as response:
                received = b"".join([part async for part in response.aiter_bytes()])
            assert received == b"".join(expected)

    run_clean(main, server.backend)


def test_each_of_many_concurrent_requests_gets_its_reply(server: Server) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(**server.client) as client:

            async def ask(number: int) -> None:
                assert (await client.get(f"{server.url}/number/{number}")).text == str(number)

            await asyncio.gather(*(ask(number) for number in range(100)))

    run_clean(main, server.backend)


def test_connections_leave_no_descriptor_in_it(server: Server) -> None:
    async def main() -> None:
        async def files() -> int:
            async with httpx.AsyncClient(**server.client) as client:
                return int((await client.get(f"{server.url}/about")).json()["files"])

        async def connect_and_leave() -> None:
            async with httpx.AsyncClient(**server.client) as client:
                await client.get(f"{server.url}/number/1")

        before = await files()
        for _ in range(5):
            await asyncio.gather(*(connect_and_leave() for _ in range(10)))
        for _ in range(200):
            if await files() <= before:  # else it has not yet seen all of the ends
                return
        raise AssertionError(f"{await files()} descriptors, {before} before")

    run_clean(main, server.backend)


def test_websocket_messages_and_close_codes(server: Server, tls: Tls) -> None:
    async def main() -> None:
        url = server.url.replace("http", "ws", 1) + "/echo"
        context = tls.client if url.startswith("wss") else None
        async with websockets.connect(url, ssl=context, max_size=None) as socket:
            for message in ("a", "é" * 70_000, b"", bytes(range(256)) * 4096):
                await socket.send(message)
                assert await socket.recv() == message
            await (await socket.ping())
            await socket.send("close")
            with pytest.raises(websockets.ConnectionClosedError):
                await socket.recv()
            assert (socket.close_code, socket.close_reason) == (4001, "told so")

    run_clean(main, server.backend)


@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_lets_a_request_in_hand_be_answered(
    backend: str, kind: str, start: Callable[..., Child], tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    server = start(uvicorn("--uds", str(path), *KINDS[kind]), {"AIOPOLL_BACKEND": backend})
    server.wait_for("Uvicorn running on")

    async def main() -> None:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, timeout=60) as client:
            request = asyncio.create_task(client.get("http://anyone/slow"))
            await asyncio.to_thread(server.wait_for, "asked")
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(server.wait_for, "Waiting for connections to close")
            with pytest.raises(httpx.ConnectError):
                await client.get("http://anyone/about")
            server.process.send_signal(signal.SIGUSR1)
            assert (await request).text == "released"

    run_clean(main, backend)
    assert server.finish() == -signal.SIGTERM, server.output
    server.wait_for(f"lifespan ends on {OURS} {backend}")
    server.check_quiet()


def test_workers_each_have_a_loop_of_ours(backend: str, start: Callable[..., Child]) -> None:
    server = start(uvicorn("--port", "0", "--workers", "2"), {"AIOPOLL_BACKEND": backend})
    url = address_of(server)
    server.wait_for(f"lifespan starts on {OURS} {backend}", count=2)

    async def main() -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{url}/about")).json()["loop"] == f"{OURS} {backend}"

    run_clean(main, backend)
    assert server.finish(signal.SIGTERM) == 0, server.output
    assert server.lines.count(f"lifespan ends on {OURS} {backend}") == 2, server.output
    assert "Traceback" not in server.output
