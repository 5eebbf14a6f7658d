"""httpx over anyio, and anyio's own task groups, streams, processes, signals and threads."""

import asyncio
import functools
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.to_thread
import httpx
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSListener

import aiopoll

from .conftest import Tls
from .harness import run_clean, running_loop

Handler = Callable[[Any], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a TCP server of anyio's while it serves."""
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    if context is not None:
        # As HTTP does it: the end of the connection is the end, with or without close_notify.
        listener = TLSListener(listener, context, standard_compatible=False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handler)
        try:
            yield port
        finally:
            tasks.cancel_scope.cancel()
    await listener.aclose()


async def answer_http(stream: anyio.abc.ByteStream) -> None:
    """A small HTTP/1.1 server: returns the path of each GET, as long as the client stays."""
    async with stream:
        reader = BufferedByteReceiveStream(stream)
        try:
            while True:
                head = await reader.receive_until(b"\r\n\r\n", 65536)
                path = head.split()[1]
                await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(path))
                await stream.send(path)
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
            pass


async def stay_silent(stream: anyio.abc.ByteStream) -> None:
    async with stream:
        await anyio.sleep_forever()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_httpx_gets_each_response_through_anyio(backend: str, secure: bool, tls: Tls) -> None:
    async def main() -> None:
        async with (
            listening(answer_http, tls.server if secure else None) as port,
            httpx.AsyncClient(verify=tls.client, timeout=60) as client,
        ):
            url = f"{'https' if secure else 'http'}://127.0.0.1:{port}"

            async def ask(number: int) -> None:
                response = await client.get(f"{url}/{number}")
                assert response.text == f"/{number}"
                stream = response.extensions["network_stream"]
                assert type(stream).__name__ == "AnyIOStream"
                assert (stream.get_extra_info("ssl_object") is not None) == secure

            async with anyio.create_task_group() as tasks:
                for number in range(100):
                    tasks.start_soon(ask, number)

    run_clean(main, backend)


def test_untrusted_certificate_is_refused(backend: str, tls: Tls) -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0, ssl=tls.server)
        port = server.sockets[0].getsockname()[1]
        async with server, httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                await client.get(f"https://127.0.0.1:{port}")

    run_clean(main, backend)


def test_a_request_that_takes_too_long_leaves_nothing(backend: str) -> None:
    async def main() -> None:
        async with listening(stay_silent) as port, httpx.AsyncClient(timeout=0.05) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"http://127.0.0.1:{port}")

    run_clean(main, backend)


def test_error_in_a_task_group_cancels_waits_on_sockets(backend: str) -> None:
    async def main() -> None:
        cancelled: list[str] = []

        async def wait_for_data(port: int, *, task_status: Any) -> None:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                task_status.started()
                try:
                    await stream.receive()
                except anyio.get_cancelled_exc_class():
                    cancelled.append("receive")
                    raise

        async def fill(port: int, *, task_status: Any) -> None:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                task_status.started()
                try:
                    while True:
                        await stream.send(bytes(1 << 20))
                except anyio.get_cancelled_exc_class():
                    cancelled.append("send")
                    raise

        async def fail_beside_them(port: int) -> None:
            async with anyio.create_task_group() as tasks:
                await tasks.start(wait_for_data, port)
                await tasks.start(fill, port)
                await anyio.wait_all_tasks_blocked()
                raise ZeroDivisionError("expected")

        async with listening(stay_silent) as port:
            with pytest.raises(ExceptionGroup) as error:
                await fail_beside_them(port)
            assert error.group_contains(ZeroDivisionError)
        assert sorted(cancelled) == ["receive", "send"]

    run_clean(main, backend)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_stream_carries_much_and_half_closes(backend: str, secure: bool, tls: Tls) -> None:
    payload = bytes(range(256)) * 16_384

    async def main() -> None:
        async def echo(stream: anyio.abc.ByteStream) -> None:
            async with stream:
                async for part in stream:
                    await stream.send(part)

        async with (
            listening(echo, tls.server if secure else None) as port,
            await anyio.connect_tcp(
                "127.0.0.1",
                port,
                ssl_context=tls.client if secure else None,
                tls_standard_compatible=False,
            ) as stream,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(stream.send, payload)
            received = b""
            while len(received) < len(payload):
                received += await stream.receive()
            assert received == payload
            if not secure:  # TLS cannot end one direction
                await stream.send_eof()
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()

    run_clean(main, backend)


def test_descriptors_pass_through_a_unix_socket(backend: str, tmp_path: Path) -> None:
    async def main() -> None:
        async def give_pipe(stream: Any) -> None:
            async with stream:
                reader, writer = os.pipe()
                os.write(writer, b"through the pipe")
                os.close(writer)
                await stream.send_fds(b"fd", [reader])
                os.close(reader)

        path = str(tmp_path / "socket")
        async with (
            await anyio.create_unix_listener(path) as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, give_pipe)
            async with await anyio.connect_unix(path) as stream:
                message, descriptors = await stream.receive_fds(10, 1)
            with os.fdopen(descriptors[0], "rb") as pipe:
                assert (message, pipe.read()) == (b"fd", b"through the pipe")
            tasks.cancel_scope.cancel()

    run_clean(main, backend)


def test_datagrams_are_exchanged(backend: str) -> None:
    async def main() -> None:
        async with (
            await anyio.create_udp_socket(local_host="127.0.0.1") as one,
            await anyio.create_udp_socket(local_host="127.0.0.1") as other,
        ):
            address = other.extra(anyio.abc.SocketAttribute.local_address)
            for number in range(100):
                await one.sendto(b"%d" % number, *address)
                data, sender = await other.receive()
                assert data == b"%d" % number
                assert sender == one.extra(anyio.abc.SocketAttribute.local_address)

    run_clean(main, backend)


def test_wait_readable_and_wait_writable(backend: str) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            await anyio.wait_writable(ours)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.wait_readable, ours)
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(anyio.BusyResourceError):
                    await anyio.wait_readable(ours)
                theirs.send(b"x")
            with anyio.CancelScope() as scope:
                scope.cancel()
                ours.recv(1)
                await anyio.wait_readable(ours)
            assert scope.cancelled_caught

    run_clean(main, backend)


def test_processes_with_pipes(backend: str) -> None:
    async def main() -> None:
        upper = "import sys; sys.stdout.write(sys.stdin.read().upper())"
        done = await anyio.run_process([sys.executable, "-c", upper], input=b"text " * 50_000)
        assert done.stdout == b"TEXT " * 50_000
        async with await anyio.open_process([sys.executable, "-c", "input()"]) as process:
            process.terminate()
            assert await process.wait() == -signal.SIGTERM
        with anyio.CancelScope() as scope:
            async with await anyio.open_process(["sleep", "1000"]) as process:
                scope.cancel()
                await process.wait()
        assert process.returncode == -signal.SIGKILL

    run_clean(main, backend)


def test_signals_are_received_in_order_of_their_coming(backend: str) -> None:
    async def main() -> None:
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
            for number in [signal.SIGUSR1, signal.SIGUSR2] * 10:
                os.kill(os.getpid(), number)
                assert await anext(signals) is number
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

    run_clean(main, backend)


def test_worker_threads_call_back_and_end_with_root_task(backend: str) -> None:
    # run_clean sees threads that are left: anyio must have found the root task to end them.
    async def main() -> None:
        def work(number: int) -> int:
            assert threading.current_thread() is not threading.main_thread()
            return anyio.from_thread.run(answer, number)

        async def answer(number: int) -> int:
            running_loop(backend)
            await anyio.sleep(0)
            return number * number

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(anyio.to_thread.run_sync, work, 1)
        assert [await anyio.to_thread.run_sync(work, n) for n in range(5)] == [0, 1, 4, 9, 16]

    run_clean(main, backend)


def test_anyio_run_and_blocking_portal_take_our_factory(backend: str) -> None:
    options = {"loop_factory": functools.partial(aiopoll.new_event_loop, backend=backend)}

    async def main() -> str:
        loop = running_loop(backend)
        assert await anyio.to_thread.run_sync(anyio.from_thread.run_sync, running_loop) is loop
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        return loop.backend

    before = set(threading.enumerate())
    assert anyio.run(main, backend_options=options) == backend
    with anyio.from_thread.start_blocking_portal("asyncio", options) as portal:
        futures = [portal.start_task_soon(main) for _ in range(5)]
        assert [future.result(60) for future in futures] == [backend] * 5
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()
