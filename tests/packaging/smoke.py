"""Uses each part of the installed package once; run by python -I where no source is in reach."""

import asyncio
import importlib
import importlib.metadata
import pkgutil
import select
import socket
import subprocess
import sys
from pathlib import Path

import aiopoll
import aiopoll.kernel

SCRIPT = Path(sys.prefix, "bin", "aiopoll")


def import_every_module() -> None:
    assert Path(sys.prefix) in Path(aiopoll.__file__).parents, aiopoll.__file__
    for module in pkgutil.walk_packages(aiopoll.__path__, "aiopoll."):
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
    aiopoll.kernel.run(echo_once())
    poll_once()
