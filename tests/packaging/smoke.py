"""Uses each part of the installed package once; run by python -I where no source is in reach."""

import asyncio
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import aiopoll
import aiopoll.kernel

SCRIPT = Path(sys.prefix, "bin", "aiopoll")


NEED = {
    "aiopoll.pytest_plugin": "pytest",
    "aiopoll.sim.items": "pytest",
    "aiopoll.prometheus": "prometheus_client",
    "aiopoll.otel": "opentelemetry",
    "aiopoll.cli.top_screen": "rich",
}
"""Modules that need others, which may not be there."""


def import_every_module() -> None:
    assert Path(sys.prefix) in Path(aiopoll.__file__).parents, aiopoll.__file__
    for module in pkgutil.walk_packages(aiopoll.__path__, "aiopoll."):
        if module.name not in NEED or importlib.util.find_spec(NEED[module.name]):
            importlib.import_module(module.name)
        print(module.name)


def run_commands() -> None:
    module = [sys.executable, "-I", "-m", "aiopoll"]
    for command in (module, [str(SCRIPT)]):
        assert subprocess.run([*command, "--help"], capture_output=True).returncode == 0
    version = subprocess.run([str(SCRIPT), "--version"], capture_output=True, text=True).stdout
    assert version == f"aiopoll {importlib.metadata.version('aiopoll')}\n", version
    doctor = subprocess.run([str(SCRIPT), "doctor"], capture_output=True, text=True)
    assert doctor.stdout.startswith("AIO poll "), doctor
    assert doctor.returncode == (0 if aiopoll.probe().aio_poll else 1), doctor


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()


async def echo_once() -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello, wheel\n")
        assert await reader.read() == b"hello, wheel\n"
        writer.close()
        await writer.wait_closed()


async def write_and_read() -> None:
    async with await aiopoll.open("smoke.txt", "w") as file:
        await file.write("hello, file\n")
    assert await aiopoll.Path("smoke.txt").read_text() == "hello, file\n"


async def run_child() -> None:
    pipe = asyncio.subprocess.PIPE
    program = "print(input())"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", program, stdin=pipe, stdout=pipe
    )
    assert await child.communicate(b"hello, child\n") == (b"hello, child\n", None)
    assert child.returncode == 0


async def receive_signal() -> None:
    loop = asyncio.get_running_loop()
    received = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, received.set_result, None)
    os.kill(os.getpid(), signal.SIGUSR1)
    await received


async def resolve() -> None:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    assert {address[0] for *_, address in found} <= {"127.0.0.1", "::1"}, found


def poll_once() -> None:
    ours, peer = socket.socketpair()
    with ours, peer, aiopoll.Context(8) as context:
        context.submit([aiopoll.Iocb.poll(ours, select.POLLIN)])
        peer.send(b"x")
        (event,) = context.reap(1)
        assert event.res & select.POLLIN, event


if __name__ == "__main__":
    import_every_module()
    run_commands()
    for backend in ("aio", "epoll"):
        aiopoll.run(echo_once(), backend=backend)
        aiopoll.run(write_and_read(), backend=backend)
        aiopoll.run(run_child(), backend=backend)
        aiopoll.run(receive_signal(), backend=backend)
        aiopoll.run(resolve(), backend=backend)
    aiopoll.kernel.run(echo_once())
    poll_once()
