"""Programs and libraries that know nothing of the simulator, unmodified inside a world.

Each program runs twice by one seed: result, time and number of steps must be equal.
"""

import asyncio
import http.server
import logging
import smtplib
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aiopoll.sim import World
from aiopoll.sim.run import run_once
from aiopoll.sim.tape import tape_of

from .redis_server import serve_redis

Program = Callable[[World], Coroutine[Any, Any, Any]]


def twice(program: Program, seed: int) -> Any:
    """Run `program` in two worlds of one seed; returns its result, which is the same in both."""
    outcomes = [run_once(program, tape_of(seed), name="client", time_limit=600) for _ in range(2)]
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    first, second = ((one.result, one.elapsed_ns, one.steps) for one in outcomes)
    assert first == second
    return first[0]


@pytest.fixture(params=[1, 2, 3])
def seed(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


def test_aiohttp_server_and_client(seed: int) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    from aiohttp import web

    def serve() -> None:
        async def hello(request: web.Request) -> web.Response:
            return web.json_response({"from": request.remote, "body": await request.text()})

        app = web.Application()
        app.router.add_post("/", hello)
        web.run_app(app, host="0.0.0.0", port=8080, print=None)

    async def program(world: World) -> Any:
        world.host("server", serve)
        await asyncio.sleep(1)
        async with aiohttp.ClientSession() as session:

            async def post(n: int) -> Any:
                async with session.post("http://server:8080/", data=str(n)) as response:
                    return await response.json()

            return await asyncio.gather(*map(post, range(5)))

    assert twice(program, seed) == [{"from": "10.0.255.254", "body": str(n)} for n in range(5)]


def test_httpx_uvicorn_and_fastapi(seed: int) -> None:
    httpx = pytest.importorskip("httpx")
    uvicorn = pytest.importorskip("uvicorn")
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()

    @app.get("/sync")
    def in_a_thread() -> Any:
        time.sleep(0.5)
        return threading.current_thread() is not threading.main_thread()

    @app.get("/async")
    async def in_the_loop() -> Any:
        return threading.current_thread() is threading.main_thread()

    async def program(world: World) -> Any:
        world.host("server", lambda: uvicorn.run(app, host="0.0.0.0", port=80, log_config=None))
        await asyncio.sleep(1)
        async with httpx.AsyncClient() as client:
            begun = time.monotonic()
            responses = await asyncio.gather(
                *(client.get(f"http://server/{kind}") for kind in ("sync", "async", "sync"))
            )
            took = time.monotonic() - begun
            # The client without asyncio, in a thread of the same host.
            other = await asyncio.to_thread(httpx.get, "http://server/async")
        return [response.json() for response in [*responses, other]], took < 0.7

    assert twice(program, seed) == ([True] * 4, True)


def test_an_asgi_application_is_a_host(seed: int) -> None:
    httpx = pytest.importorskip("httpx")
    applications = pytest.importorskip("starlette.applications")
    pytest.importorskip("uvicorn")
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    def hello(request: Any) -> Any:
        return PlainTextResponse(f"hello from {socket.gethostname()}")

    async def program(world: World) -> Any:
        world.host("web", applications.Starlette(routes=[Route("/", hello)]))
        await asyncio.sleep(1)
        async with httpx.AsyncClient() as client:
            return (await client.get("http://web/")).text

    assert twice(program, seed) == "hello from web"


def test_websockets(seed: int) -> None:
    websockets: Any = pytest.importorskip("websockets")

    async def serve() -> None:
        async def echo(connection: Any) -> None:
            async for message in connection:
                await connection.send(message)

        async with websockets.serve(echo, "0.0.0.0", 8765):
            await asyncio.Event().wait()

    async def program(world: World) -> Any:
        world.host("server", serve)
        await asyncio.sleep(1)
        async with websockets.connect("ws://server:8765") as connection:
            await connection.send("hello")
            text = await connection.recv()
            await asyncio.sleep(60)
            await connection.send(bytes(100_000))
            return text, len(await connection.recv()), connection.protocol.state.name

    assert twice(program, seed) == ("hello", 100_000, "OPEN")


def test_redis_with_and_without_asyncio(seed: int) -> None:
    redis = pytest.importorskip("redis")
    asynchronous = pytest.importorskip("redis.asyncio")

    async def program(world: World) -> Any:
        world.host("db", serve_redis)
        await asyncio.sleep(1)
        client = asynchronous.Redis(host="db")
        await client.set("a", "1")
        values = [await client.get("a"), await client.get("b")]
        await client.aclose()

        def synchronous() -> Any:
            with redis.Redis(host="db") as other:
                other.set("b", 2)
                return other.get("b")

        return [*values, await asyncio.to_thread(synchronous)]

    assert twice(program, seed) == [b"1", None, b"2"]


def test_anyio(seed: int) -> None:
    anyio = pytest.importorskip("anyio")

    async def serve() -> None:
        async def handle(stream: Any) -> None:
            async with stream:
                async for data in stream:
                    await stream.send(data)

        listener = await anyio.create_tcp_listener(local_host="0.0.0.0", local_port=1234)
        await listener.serve(handle)

    async def program(world: World) -> Any:
        world.host("server", lambda: anyio.run(serve))
        await asyncio.sleep(1)
        async with await anyio.connect_tcp("server", 1234) as stream:
            await stream.send(b"hello")
            data = await stream.receive()
        begun = time.monotonic()
        found = await anyio.to_thread.run_sync(
            lambda: anyio.from_thread.run(asyncio.sleep, 2, "from a thread")
        )
        return data, found, time.monotonic() - begun

    assert twice(program, seed) == (b"hello", "from a thread", pytest.approx(2.0))


def test_aiosmtpd_and_smtplib(seed: int) -> None:
    controllers = pytest.importorskip("aiosmtpd.controller")

    async def program(world: World) -> Any:
        received: list[bytes] = []

        class Handler:
            async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
                received.append(envelope.content)
                return "250 OK"

        def serve() -> None:
            # The controller runs its loop in a thread of its own.
            controller = controllers.Controller(Handler(), hostname="0.0.0.0", port=25)
            controller.start()
            time.sleep(100)
            controller.stop()

        def send() -> None:
            with smtplib.SMTP("mail", 25) as client:
                client.sendmail("a@example.org", "b@example.org", "hello")

        mail = world.host("mail", serve)
        await asyncio.sleep(1)
        await asyncio.to_thread(send)
        await asyncio.sleep(200)
        return received, mail.phase.name, mail.error

    assert twice(program, seed) == ([b"hello\r\n"], "EXITED", None)


def test_asyncssh(seed: int) -> None:
    # asyncssh makes its keys by C: the packets differ in size, and so the times by nanoseconds.
    asyncssh = pytest.importorskip("asyncssh")
    key = asyncssh.generate_private_key("ssh-ed25519")

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

    async def program(world: World) -> Any:
        def process(process: Any) -> None:
            process.stdout.write(f"{process.command} on {socket.gethostname()}")
            process.exit(0)

        async def serve() -> None:
            await asyncssh.create_server(
                Server, "0.0.0.0", 22, server_host_keys=[key], process_factory=process
            )
            await asyncio.Event().wait()

        world.host("box", serve)
        await asyncio.sleep(1)
        async with asyncssh.connect(
            "box", known_hosts=None, username="u", config=None, client_keys=None
        ) as connection:
            return (await connection.run("ls")).stdout

    outcome = run_once(program, tape_of(seed), name="client", time_limit=600)
    if outcome.error is not None:
        raise outcome.error
    assert outcome.result == "ls on box"


def test_http_server_and_urllib(seed: int) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(1)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *args: Any) -> None:
            logging.getLogger("http").info("%s", args)

    async def program(world: World) -> Any:
        def serve() -> None:
            http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()

        def get(n: int) -> bytes:
            with urllib.request.urlopen(f"http://web/{n}", timeout=10) as response:
                data: bytes = response.read()
                return data

        world.host("web", serve)
        await asyncio.sleep(1)
        begun = time.monotonic()
        pages = await asyncio.gather(*(asyncio.to_thread(get, n) for n in range(4)))
        return pages, time.monotonic() - begun < 1.5

    assert twice(program, seed) == ([b"/0", b"/1", b"/2", b"/3"], True)


def test_tornado(seed: int) -> None:
    web = pytest.importorskip("tornado.web")
    client = pytest.importorskip("tornado.httpclient")

    async def program(world: World) -> Any:
        class Hello(web.RequestHandler):
            def get(self) -> None:
                self.write("hello")

        async def serve() -> None:
            web.Application([("/", Hello)]).listen(80)
            await asyncio.Event().wait()

        world.host("web", serve)
        await asyncio.sleep(1)
        return (await client.AsyncHTTPClient().fetch("http://web/")).body

    assert twice(program, seed) == b"hello"


def test_tls_over_streams(seed: int) -> None:
    # OpenSSL draws from the machine's entropy, so that times differ by the size of signatures.
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("server").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)

    async def program(world: World) -> Any:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        async def serve() -> None:
            server = await asyncio.start_server(echo, "0.0.0.0", 443, ssl=server_side)
            await server.serve_forever()

        world.host("server", serve)
        await asyncio.sleep(1)
        reader, writer = await asyncio.open_connection("server", 443, ssl=client_side)
        writer.write(b"hello\n")
        line = await reader.readline()
        writer.close()
        return line

    outcome = run_once(program, tape_of(seed), name="client", time_limit=600)
    if outcome.error is not None:
        raise outcome.error
    assert outcome.result == b"hello\n"
