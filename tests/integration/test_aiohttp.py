"""aiohttp, server and client, on a loop of ours: bodies, files, websockets, TLS, shutdown."""

import asyncio
import hashlib
import http.client
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from .children import Child, python
from .conftest import Tls
from .harness import run_clean, running_loop

pytestmark = pytest.mark.subprocess

BIG = 16 * 1024 * 1024
PATTERN = bytes(range(256)) * 4096  # 1 MiB


@asynccontextmanager
async def serving(app: web.Application, ssl_context: Any = None) -> AsyncIterator[str]:
    """The server's address while it serves."""
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context)
        await site.start()
        scheme = "https" if ssl_context else "http"
        yield f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def stream(request: web.Request) -> web.StreamResponse:
    """Sends back each part as it comes, in upper case."""
    running_loop()
    response = web.StreamResponse()
    await response.prepare(request)
    async for part in request.content.iter_any():
        await response.write(part.upper())
    await response.write_eof()
    return response


async def digest(request: web.Request) -> web.Response:
    hash_ = hashlib.sha256()
    async for part in request.content.iter_any():
        hash_.update(part)
    return web.json_response({"digest": hash_.hexdigest()})


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """Echoes; closes with 4001 on request."""
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.data == "close":
            await socket.close(code=4001, message=b"told so")
        elif message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


async def number(request: web.Request) -> web.Response:
    return web.Response(text=request.match_info["n"])


def application(file: Path | None = None) -> web.Application:
    async def whole_file(_: web.Request) -> web.FileResponse:
        assert file is not None
        return web.FileResponse(file)

    app = web.Application(client_max_size=0)
    app.router.add_post("/stream", stream)
    app.router.add_post("/digest", digest)
    app.router.add_get("/websocket", websocket)
    app.router.add_get("/number/{n}", number)
    app.router.add_get("/file", whole_file)
    return app


async def parts_of(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


@pytest.mark.parametrize("debug", [False, True], ids=["release", "debug"])
def test_a_body_streams_both_ways_at_once(backend: str, debug: bool) -> None:
    async def main() -> None:
        async with serving(application()) as url, aiohttp.ClientSession() as session:
            more = asyncio.Event()

            async def body() -> AsyncIterator[bytes]:
                yield b"first"
                await more.wait()  # set only when the first part has come back
                yield b"second"

            async with session.post(f"{url}/stream", data=body()) as response:
                assert await response.content.readany() == b"FIRST"
                more.set()
                assert await response.read() == b"SECOND"

    run_clean(main, backend, debug=debug)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_big_upload_arrives_whole(backend: str, secure: bool, tls: Tls) -> None:
    body = PATTERN * 16

    async def main() -> None:
        async with (
            serving(application(), tls.server if secure else None) as url,
            aiohttp.ClientSession() as session,
        ):
            upload = parts_of(body, 100_000)
            async with session.post(f"{url}/digest", data=upload, ssl=tls.client) as response:
                answer = await response.json()
        assert answer["digest"] == hashlib.sha256(body).hexdigest()

    run_clean(main, backend)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_big_file_is_sent_by_sendfile_or_through_tls(
    backend: str, secure: bool, tls: Tls, tmp_path: Path
) -> None:
    path = tmp_path / "big"
    path.write_bytes(PATTERN * 16)
    sent: list[int] = []

    async def main() -> None:
        loop = running_loop()
        native = loop.sendfile

        async def without_fallback(*arguments: Any, **options: Any) -> int:
            sent.append(await native(*arguments, **{**options, "fallback": secure}))
            return sent[-1]

        loop.sendfile = without_fallback  # type: ignore[method-assign]
        async with (
            serving(application(path), tls.server if secure else None) as url,
            aiohttp.ClientSession() as session,
        ):
            async with session.get(f"{url}/file", ssl=tls.client) as response:
                assert response.content_length == BIG
                assert await response.read() == PATTERN * 16
            ranges = {"Range": "bytes=1000-1999"}
            async with session.get(f"{url}/file", headers=ranges, ssl=tls.client) as response:
                assert response.status == 206
                assert await response.read() == (PATTERN * 2)[1000:2000]

    run_clean(main, backend)
    assert sent == [BIG, 1000]


def test_client_that_leaves_in_a_file_harms_no_other(backend: str, tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(PATTERN * 16)

    async def main() -> None:
        async with serving(application(path)) as url, aiohttp.ClientSession() as session:
            for _ in range(5):
                async with session.get(f"{url}/file") as response:
                    await response.content.readany()
                    response.close()
            async with session.get(f"{url}/file") as response:
                assert await response.read() == PATTERN * 16

    run_clean(main, backend)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_each_of_many_concurrent_requests_gets_its_reply(
    backend: str, secure: bool, tls: Tls
) -> None:
    count = 100 if secure else 500

    async def main() -> None:
        async with (
            serving(application(), tls.server if secure else None) as url,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as session,
        ):

            async def ask(number: int) -> None:
                async with session.get(f"{url}/number/{number}", ssl=tls.client) as response:
                    assert await response.text() == str(number)

            await asyncio.gather(*(ask(number) for number in range(count)))

    run_clean(main, backend)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_websocket_messages_pings_and_close_codes(backend: str, secure: bool, tls: Tls) -> None:
    async def main() -> None:
        async with (
            serving(application(), tls.server if secure else None) as url,
            aiohttp.ClientSession() as session,
            session.ws_connect(
                f"{url}/websocket", ssl=tls.client, max_msg_size=0, autoping=False
            ) as socket,
        ):
            for text in ("a", "é" * 70_000):
                await socket.send_str(text)
                assert await socket.receive_str() == text
            await socket.send_bytes(PATTERN)
            assert await socket.receive_bytes() == PATTERN
            await socket.ping(b"there?")
            pong = await socket.receive()
            assert (pong.type, pong.data) == (aiohttp.WSMsgType.PONG, b"there?")
            await socket.send_str("close")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 4001

    run_clean(main, backend)


def test_requests_over_a_unix_socket(backend: str, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "socket")
        runner = web.AppRunner(application())
        await runner.setup()
        await web.UnixSite(runner, path).start()
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
            session.get("http://anyone/number/7") as response,
        ):
            assert await response.text() == "7"
        await runner.cleanup()

    run_clean(main, backend)


def test_a_request_that_is_cancelled_frees_its_connection(backend: str) -> None:
    async def main() -> None:
        asked, left = asyncio.Event(), asyncio.Event()

        async def slow(_: web.Request) -> web.Response:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                left.set()
            raise AssertionError

        runner = web.AppRunner(app := application(), handler_cancellation=True)
        app.router.add_get("/slow", slow)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            request = asyncio.create_task(session.get(f"{url}/slow"))
            await asked.wait()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            await left.wait()  # the server saw the end of the connection at once
            async with session.get(f"{url}/number/1") as response:
                assert await response.text() == "1"
        await runner.cleanup()

    run_clean(main, backend)


PROGRAM = """
import asyncio, socket
import aiopoll
from aiohttp import web

ending = asyncio.Event()

async def slow(request):
    print("asked", flush=True)
    await ending.wait()
    loop = asyncio.get_running_loop()
    return web.Response(text=f"{type(loop).__name__} on {loop.backend}")

async def end(app):
    ending.set()

app = web.Application()
app.router.add_get("/slow", slow)
app.on_shutdown.append(end)
listener = socket.create_server(("127.0.0.1", 0))
print(f"port {listener.getsockname()[1]}", flush=True)
loop = aiopoll.new_event_loop()
web.run_app(app, sock=listener, loop=loop, print=None)
print("closed", loop.is_closed(), flush=True)
"""


def test_sigterm_lets_a_request_in_hand_be_answered(
    backend: str, start: Callable[..., Child]
) -> None:
    server = start(python("-W", "error", "-c", PROGRAM), {"AIOPOLL_BACKEND": backend})
    port = int(server.wait_for("port").split()[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/slow")
    server.wait_for("asked")
    server.process.send_signal(signal.SIGTERM)
    assert connection.getresponse().read() == f"EventLoop on {backend}".encode()
    connection.close()
    assert server.finish() == 0, server.output
    assert server.lines[-1] == "closed True"
