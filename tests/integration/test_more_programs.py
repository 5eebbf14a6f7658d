"""hypercorn, grpc.aio, aiofiles and nest_asyncio on a loop of ours."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from subprocess import PIPE

import aiofiles
import aiofiles.os
import httpx
import pytest

from .children import Child, python
from .conftest import Tls
from .harness import run_clean

HYPERCORN = """
import asyncio, signal, sys
import aiopoll, hypercorn.asyncio, hypercorn.config
from asgi_app import app

async def main(certificate, key):
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    config = hypercorn.config.Config()
    config.bind = ["127.0.0.1:0"]
    config.certfile, config.keyfile = certificate, key
    await hypercorn.asyncio.serve(app, config, shutdown_trigger=ended.wait)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

aiopoll.run(main(*sys.argv[1:]))
print("ended", flush=True)
"""

GRPC = """
import asyncio, sys
import aiopoll, grpc, grpc.aio

class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/test/upper":
            return grpc.unary_unary_rpc_method_handler(self.upper)
        if details.method == "/test/echo":
            return grpc.stream_stream_rpc_method_handler(self.echo)

    async def upper(self, request, context):
        assert type(asyncio.get_running_loop()) is aiopoll.EventLoop
        return request.upper()

    async def echo(self, requests, context):
        try:
            async for request in requests:
                yield request
        finally:
            echoes_ended.release()

echoes_ended = asyncio.Semaphore(0)

async def main():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        upper = channel.unary_unary("/test/upper")
        answers = await asyncio.gather(*(upper(b"said %d" % n) for n in range(200)))
        assert answers == [b"SAID %d" % n for n in range(200)]
        call = channel.stream_stream("/test/echo")()
        for size in (0, 10, 1_000_000):
            await call.write(bytes(size))
            assert await call.read() == bytes(size)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        cancelled = channel.stream_stream("/test/echo")()
        await cancelled.write(b"x")
        # grpc prints a traceback for a call that is cancelled before it runs, on any loop.
        assert await cancelled.read() == b"x"
        cancelled.cancel()
        assert await cancelled.code() is grpc.StatusCode.CANCELLED
        for _ in range(2):
            await echoes_ended.acquire()
    await server.stop(None)
    print("loop", asyncio.get_running_loop().backend)

aiopoll.run(main())
print("ended", flush=True)
"""

NESTED = """
import asyncio, socket, sys
import aiopoll, nest_asyncio

async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await asyncio.sleep(0.001)
        await writer.drain()
    writer.close()

async def ask(address, text):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(text + b"\\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer.strip()

def ask_from_a_function(address, text):
    # While this runs, so does the coroutine that has called it.
    return asyncio.get_running_loop().run_until_complete(
        asyncio.wait_for(asyncio.shield(ask(address, text)), 30))

class Asking(asyncio.Protocol):
    # Waits for an answer to what it writes, on the same connection, before it returns.
    def __init__(self):
        self.answer = asyncio.get_running_loop().create_future()
        self.received = []

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received.append(data)
        if data == b"begin":
            self.transport.write(b"question")
            asyncio.get_running_loop().run_until_complete(
                asyncio.wait_for(asyncio.shield(self.answer), 30))
            self.transport.write(b"thanks")
        else:
            self.answer.set_result(data)

async def ask_within_a_protocol(loop):
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, protocol = await loop.create_connection(Asking, sock=ours)
    await loop.sock_sendall(theirs, b"begin")
    assert await loop.sock_recv(theirs, 100) == b"question"
    await loop.sock_sendall(theirs, b"answer")
    assert await loop.sock_recv(theirs, 100) == b"thanks"
    assert protocol.received == [b"begin", b"answer"]
    transport.close()
    theirs.close()

async def main():
    if "late" in sys.argv:
        nest_asyncio.apply()
    loop = asyncio.get_running_loop()
    await asyncio.wait_for(ask_within_a_protocol(loop), 30)
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    async def several(number):
        texts = [b"%d.%d" % (number, i) for i in range(5)]
        return [ask_from_a_function(address, text) for text in texts] == texts

    assert all(await asyncio.gather(*(several(number) for number in range(5))))
    process = loop.run_until_complete(asyncio.create_subprocess_exec("true"))
    assert loop.run_until_complete(process.wait()) == 0
    assert loop.run_until_complete(loop.run_in_executor(None, len, "four")) == 4
    server.close()
    print("loop", loop.backend)

loop = aiopoll.new_event_loop()
asyncio.set_event_loop(loop)
if "early" in sys.argv:
    nest_asyncio.apply(loop)
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
print("ended", flush=True)
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_hypercorn_serves_http_1_and_2(
    backend: str, http2: bool, start: Callable[..., Child], tls: Tls
) -> None:
    server = start(
        python("-c", HYPERCORN, tls.certificate, tls.key),
        {"AIOPOLL_BACKEND": backend, "PYTHONPATH": str(Path(__file__).parent)},
    )
    url = server.wait_for("Running on").split("Running on ")[1].split()[0]
    assert server.wait_for("lifespan starts").endswith(f"EventLoop {backend}")

    async def main() -> None:
        async with httpx.AsyncClient(verify=tls.client, http2=http2, timeout=60) as client:

            async def ask(number: int) -> None:
                response = await client.get(f"{url}/number/{number}")
                assert response.text == str(number)
                assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")

            await asyncio.gather(*(ask(number) for number in range(50)))
            expected = b"".join(bytes([97 + number % 26]) * 100_000 for number in range(20))
            assert (await client.get(f"{url}/parts/20")).content == expected

    run_clean(main, backend)
    assert server.finish(signal.SIGTERM) == 0, server.output
    server.wait_for("lifespan ends")
    assert server.lines[-1] == "ended"
    server.check_quiet()


@pytest.mark.subprocess
def test_grpc_calls_streams_and_cancellation(backend: str, start: Callable[..., Child]) -> None:
    # In a child: grpc keeps its threads and descriptors as long as the process lives. Its own log
    # would come between the pieces of the program's output.
    quiet = {"GRPC_VERBOSITY": "ERROR"}
    program = start(python("-c", GRPC), {"AIOPOLL_BACKEND": backend, **quiet})
    assert program.finish() == 0, program.output
    assert program.lines[-2:] == [f"loop {backend}", "ended"]
    program.check_quiet()


NESTED_STOCK = """
import asyncio, nest_asyncio
nest_asyncio.apply()
asyncio.run(asyncio.wait_for(asyncio.sleep(0), 30))
"""


@cache
def nest_asyncio_works() -> bool:
    """Whether it does with asyncio's own loop: it is not maintained any more."""
    return subprocess.run([sys.executable, "-c", NESTED_STOCK], stderr=PIPE).returncode == 0


@pytest.mark.subprocess
@pytest.mark.parametrize("applied", ["early", "late"])
def test_nest_asyncio_runs_a_loop_in_itself(
    backend: str, applied: str, start: Callable[..., Child]
) -> None:
    if not nest_asyncio_works():
        pytest.skip("skips.toml: nest_asyncio")
    program = start(python("-c", NESTED, applied), {"AIOPOLL_BACKEND": backend})
    assert program.finish() == 0, program.output
    assert program.lines[-2:] == [f"loop {backend}", "ended"]
    program.check_quiet()


def test_aiofiles_reads_and_writes(backend: str, tmp_path: Path) -> None:
    async def main() -> None:
        async def write_and_read(number: int) -> None:
            path = tmp_path / str(number)
            async with aiofiles.open(path, "w") as file:
                await file.writelines(f"{line}\n" for line in range(1000))
            async with aiofiles.open(path) as file:
                assert [line async for line in file] == [f"{line}\n" for line in range(1000)]
            await aiofiles.os.remove(path)

        await asyncio.gather(*(write_and_read(number) for number in range(20)))
        assert os.listdir(tmp_path) == []

    run_clean(main, backend)
