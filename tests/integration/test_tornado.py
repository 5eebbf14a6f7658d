"""Tornado's servers, clients and IOLoop on a loop of ours."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import tornado.httpclient
import tornado.httpserver
import tornado.ioloop
import tornado.iostream
import tornado.netutil
import tornado.process
import tornado.tcpclient
import tornado.tcpserver
import tornado.web
import tornado.websocket

import aiopoll

from .conftest import Tls
from .harness import run_clean, running_loop


def current_ioloop() -> tornado.ioloop.IOLoop:
    """Tornado's loop, which wraps ours."""
    ioloop = tornado.ioloop.IOLoop.current()
    assert ioloop.asyncio_loop is running_loop()  # type: ignore[attr-defined]
    return ioloop


class Number(tornado.web.RequestHandler):
    async def get(self, number: str) -> None:
        current_ioloop()
        await asyncio.sleep(0)
        self.write(number)


class Parts(tornado.web.RequestHandler):
    async def get(self, count: str) -> None:
        for number in range(int(count)):
            self.write(bytes([97 + number % 26]) * 100_000)
            await self.flush()


@tornado.web.stream_request_body
class Upload(tornado.web.RequestHandler):
    received = 0

    async def data_received(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        self.received += len(chunk)

    def post(self) -> None:
        self.write(str(self.received))


class Echo(tornado.websocket.WebSocketHandler):
    async def on_message(self, message: str | bytes) -> None:
        if message == "close":
            self.close(4001, "told so")
        else:
            await self.write_message(message, binary=isinstance(message, bytes))


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[str]:
    """The server's address while it serves."""
    application = tornado.web.Application(
        [
            (r"/number/(\d+)", Number),
            (r"/parts/(\d+)", Parts),
            (r"/upload", Upload),
            (r"/echo", Echo),
        ],
        websocket_max_message_size=1 << 30,
        log_function=lambda handler: None,
    )
    server = tornado.httpserver.HTTPServer(application, max_buffer_size=1 << 30, **options)
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield f"127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        server.stop()
        await server.close_all_connections()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_requests_get_their_own_responses(backend: str, secure: bool, tls: Tls) -> None:
    async def main() -> None:
        async with serving(ssl_options=tls.server if secure else None) as address:
            client = tornado.httpclient.AsyncHTTPClient(max_clients=50)
            url = f"{'https' if secure else 'http'}://{address}"

            async def ask(number: int) -> None:
                answer = await client.fetch(f"{url}/number/{number}", ssl_options=tls.client)
                assert answer.body == b"%d" % number

            await asyncio.gather(*(ask(number) for number in range(100)))
            client.close()

    run_clean(main, backend)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_big_bodies_stream_in_and_out(backend: str, secure: bool, tls: Tls) -> None:
    async def main() -> None:
        async with serving(ssl_options=tls.server if secure else None) as address:
            client = tornado.httpclient.AsyncHTTPClient()
            url = f"{'https' if secure else 'http'}://{address}"
            received: list[bytes] = []
            await client.fetch(
                f"{url}/parts/50", streaming_callback=received.append, ssl_options=tls.client
            )
            expected = b"".join(bytes([97 + number % 26]) * 100_000 for number in range(50))
            assert b"".join(received) == expected
            answer = await client.fetch(
                f"{url}/upload", method="POST", body=expected, ssl_options=tls.client
            )
            assert answer.body == b"%d" % len(expected)
            client.close()

    run_clean(main, backend)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_websocket_messages_and_close_codes(backend: str, secure: bool, tls: Tls) -> None:
    async def main() -> None:
        async with serving(ssl_options=tls.server if secure else None) as address:
            request = tornado.httpclient.HTTPRequest(
                f"{'wss' if secure else 'ws'}://{address}/echo", ssl_options=tls.client
            )
            connection = await tornado.websocket.websocket_connect(
                request, max_message_size=1 << 30
            )
            for message in ("a", "é" * 70_000, b"", bytes(range(256)) * 16_384):
                await connection.write_message(message, binary=isinstance(message, bytes))
                assert await connection.read_message() == message
            await connection.write_message("close")
            assert await connection.read_message() is None
            assert (connection.close_code, connection.close_reason) == (4001, "told so")
            connection.close()

    run_clean(main, backend)


def test_callbacks_timeouts_and_executors(backend: str) -> None:
    async def main() -> None:
        ioloop = current_ioloop()
        called: list[str] = []
        done = asyncio.Event()

        def tick() -> None:
            called.append("tick")
            if called.count("tick") == 5:
                periodic.stop()
                done.set()

        periodic = tornado.ioloop.PeriodicCallback(tick, 1)
        periodic.start()
        cancelled = ioloop.call_later(0, called.append, "never")
        ioloop.remove_timeout(cancelled)
        ioloop.call_at(ioloop.time() - 1, called.append, "late")
        ioloop.add_callback(called.append, "callback")
        await done.wait()
        assert not periodic.is_running()
        assert sorted(called) == ["callback", "late", *["tick"] * 5]
        thread = await ioloop.run_in_executor(None, ioloop.add_callback, done.clear)
        assert thread is None
        while done.is_set():
            await asyncio.sleep(0)

    run_clean(main, backend)


@pytest.mark.parametrize("make", [socket.socketpair, os.pipe], ids=["sockets", "pipe"])
def test_handlers_on_descriptors(backend: str, make: Callable[[], tuple[Any, Any]]) -> None:
    def number_of(end: Any) -> int:
        return end if isinstance(end, int) else int(end.fileno())

    async def main() -> None:
        ioloop = current_ioloop()
        reader, writer = make()
        seen: list[tuple[str, int]] = []

        def readable(end: Any, events: int) -> None:
            data = os.read(number_of(end), 100)
            seen.append((data.decode(), events))
            if not data:
                ioloop.remove_handler(end)

        def writable(end: Any, events: int) -> None:
            assert events & ioloop.WRITE
            os.write(number_of(end), b"sent")
            ioloop.update_handler(end, 0)

        ioloop.add_handler(reader, readable, ioloop.READ)
        ioloop.add_handler(writer, writable, ioloop.WRITE)
        while not seen:
            await asyncio.sleep(0)
        ioloop.update_handler(writer, ioloop.WRITE)
        while len(seen) < 2:
            await asyncio.sleep(0)
        with pytest.raises(ValueError, match="added twice"):
            ioloop.add_handler(reader, readable, ioloop.READ)
        ioloop.remove_handler(writer)
        os.close(writer) if isinstance(writer, int) else writer.close()
        while len(seen) < 3:
            await asyncio.sleep(0)
        assert seen == [("sent", ioloop.READ)] * 2 + [("", ioloop.READ)]
        os.close(reader) if isinstance(reader, int) else reader.close()

    run_clean(main, backend)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_streams_of_its_own(backend: str, secure: bool, tls: Tls) -> None:
    class Upper(tornado.tcpserver.TCPServer):
        async def handle_stream(
            self, stream: tornado.iostream.IOStream, address: tuple[str, int]
        ) -> None:
            try:
                while True:
                    await stream.write((await stream.read_until(b"\n")).upper())
            except tornado.iostream.StreamClosedError:
                pass

    async def main() -> None:
        server = Upper(ssl_options=tls.server if secure else None)
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        client = tornado.tcpclient.TCPClient()
        streams = [
            await client.connect(
                *sockets[0].getsockname(), ssl_options=tls.client if secure else None
            )
            for _ in range(20)
        ]
        for stream in streams:
            await stream.write(b"said " * 20_000 + b"\n")
        for stream in streams:
            assert await stream.read_until(b"\n") == b"SAID " * 20_000 + b"\n"
            stream.close()
        client.close()
        server.stop()

    run_clean(main, backend)


def test_a_subprocess_through_pipes(backend: str) -> None:
    async def main() -> None:
        stream = tornado.process.Subprocess.STREAM
        command = [sys.executable, "-c", "print(input().upper()); raise SystemExit(7)"]
        process = tornado.process.Subprocess(command, stdin=stream, stdout=stream)
        await process.stdin.write(b"said\n")
        assert await process.stdout.read_until_close() == b"SAID\n"
        assert await process.wait_for_exit(raise_error=False) == 7
        process.stdin.close()
        process.uninitialize()

    run_clean(main, backend)


def test_ioloop_made_by_tornado_is_ours(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside any running loop Tornado calls asyncio.new_event_loop."""

    async def main() -> str:
        current_ioloop()
        await asyncio.sleep(0)
        return running_loop(backend).backend

    monkeypatch.setenv("AIOPOLL_BACKEND", backend)
    monkeypatch.setattr(asyncio, "new_event_loop", aiopoll.new_event_loop)
    ioloop = tornado.ioloop.IOLoop(make_current=False)
    try:
        coroutine: Callable[[], Awaitable[str]] = main
        assert ioloop.run_sync(coroutine) == backend
    finally:
        ioloop.close()
    assert ioloop.asyncio_loop.is_closed()  # type: ignore[attr-defined]
