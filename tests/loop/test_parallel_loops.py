"""Loops in several threads at once: nothing of one reaches another, with a GIL and without."""

import asyncio
import fcntl
import os
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import CHILD_SECONDS_MAX
from tests.support.threads import in_threads

import aiopoll

THREADS = 4
ROUNDS = 40


def run_in_loops(
    scenario: Callable[[int], Coroutine[Any, Any, Any]],
    loop_options: dict[str, Any],
    count: int = THREADS,
) -> list[Any]:
    """Runs scenario(number) in a loop and thread of its own for each number."""

    def run(number: int) -> Any:
        limited = asyncio.wait_for(scenario(number), CHILD_SECONDS_MAX)
        return aiopoll.run(limited, **loop_options)

    return in_threads([partial(run, number) for number in range(count)])


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def talk(
    address: tuple[str, int], number: int, size: int, context: ssl.SSLContext | None = None
) -> None:
    """Sends messages that no other talk has, and takes their echoes."""
    name = "localhost" if context else None
    reader, writer = await aiopoll.open_connection(*address, ssl=context, server_hostname=name)
    for round_ in range(ROUNDS):
        message = (number * ROUNDS + round_ + 1).to_bytes(4, "big") * (size // 4)
        writer.write(message)
        assert await reader.readexactly(size) == message
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("size", [64, 100_000])
def test_loops_echo_each_others_bytes(loop_options: dict[str, Any], size: int) -> None:
    addresses: list[Any] = [None] * THREADS
    meet, part = threading.Barrier(THREADS), threading.Barrier(THREADS)

    async def serve_and_talk(number: int) -> None:
        server = await aiopoll.start_server(echo, "127.0.0.1", 0)
        addresses[number] = server.sockets[0].getsockname()
        await asyncio.to_thread(meet.wait, CHILD_SECONDS_MAX)
        await asyncio.gather(
            *(talk(addresses[(number + n) % THREADS], 10 * number + n, size) for n in range(4))
        )
        await asyncio.to_thread(part.wait, CHILD_SECONDS_MAX)
        server.close()
        await server.wait_closed()

    run_in_loops(serve_and_talk, loop_options)


def test_loops_echo_over_tls(
    loop_options: dict[str, Any],
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    async def serve_and_talk(number: int) -> None:
        server = await aiopoll.start_server(echo, "127.0.0.1", 0, ssl=server_context)
        address = server.sockets[0].getsockname()
        await asyncio.gather(
            *(talk(address, 10 * number + n, 10_000, client_context) for n in range(2))
        )
        server.close()
        await server.wait_closed()

    run_in_loops(serve_and_talk, loop_options)


def test_loops_receive_their_own_datagrams(loop_options: dict[str, Any]) -> None:
    async def send_and_receive(number: int) -> None:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[bytes] = asyncio.Queue()

        class Receiver(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, address: Any) -> None:
                arrived.put_nowait(data)

        transport, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.bind(("127.0.0.1", 0))
            address = transport.get_extra_info("sockname")
            for round_ in range(ROUNDS):
                message = bytes([number + 1, round_]) * 500
                await loop.sock_sendto(sender, message, address)
                assert await arrived.get() == message
                transport.sendto(message, sender.getsockname())
                assert (await loop.sock_recvfrom(sender, 2000))[0] == message
        transport.close()

    run_in_loops(send_and_receive, loop_options)


def test_loops_receive_by_sock_recv(loop_options: dict[str, Any]) -> None:
    async def send_and_receive(number: int) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            for round_ in range(ROUNDS):
                message = bytes([number + 1, round_]) * (100 if round_ % 2 else 30_000)
                sending = loop.create_task(loop.sock_sendall(theirs, message))
                received = b""
                while len(received) < len(message):
                    received += await loop.sock_recv(ours, 65536)
                assert received == message
                await sending

    run_in_loops(send_and_receive, loop_options)


def test_loops_open_and_close_at_once(loop_options: dict[str, Any]) -> None:
    """Each has a context of its own, kept or new: they would steal each other's events."""

    def take(reader: int, come: "asyncio.Future[bytes]") -> None:
        come.set_result(os.read(reader, 1))

    async def turn(pipe: tuple[int, int]) -> bytes:
        loop = asyncio.get_running_loop()
        come = loop.create_future()
        loop.add_reader(pipe[0], lambda: None if come.done() else take(pipe[0], come))
        os.write(pipe[1], b"x")
        data: bytes = await come
        loop.remove_reader(pipe[0])
        return data

    def open_and_close() -> None:
        pipe = os.pipe()
        for _ in range(ROUNDS // 4):
            assert aiopoll.run(turn(pipe), **loop_options) == b"x"
        for end in pipe:
            os.close(end)

    in_threads([open_and_close] * THREADS)


def test_loops_start_children(loop_options: dict[str, Any]) -> None:
    async def start(number: int) -> None:
        for round_ in range(4):
            text = f"{number} {round_}".encode()
            child = await asyncio.create_subprocess_exec(
                "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            assert (await child.communicate(text))[0] == text
            assert child.returncode == 0

    run_in_loops(start, loop_options)


def test_loops_resolve_names(loop_options: dict[str, Any]) -> None:
    async def resolve(number: int) -> None:
        loop = asyncio.get_running_loop()
        for port in range(1, 100):
            (found,) = await loop.getaddrinfo(
                f"127.0.{number}.{port}", port, type=socket.SOCK_STREAM
            )
            assert found[4] == (f"127.0.{number}.{port}", port)
            names = await loop.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
            assert {name[4][1] for name in names} == {port}

    run_in_loops(resolve, loop_options)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_loops_fork_beside_each_other(loop_options: dict[str, Any]) -> None:
    """The child, which has one thread of the four, runs a loop of its own."""

    async def child() -> None:
        server = await aiopoll.start_server(echo, "127.0.0.1", 0)
        await talk(server.sockets[0].getsockname(), 1, 64)
        server.close()

    async def fork_and_talk(number: int) -> None:
        server = await aiopoll.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        pids = []
        for _ in range(3):
            await talk(address, number, 64)
            if number == 0:
                pids.append(os.fork())
                if pids[-1] == 0:
                    status = 1
                    try:
                        asyncio._set_running_loop(None)
                        aiopoll.run(child(), **loop_options)
                        status = 0
                    finally:
                        os._exit(status)
        server.close()
        await server.wait_closed()
        for pid in pids:
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            assert status == 0

    run_in_loops(fork_and_talk, loop_options)


def run_stock(scenario: Callable[[int], Coroutine[Any, Any, None]], number: int) -> None:
    asyncio.run(asyncio.wait_for(scenario(number), CHILD_SECONDS_MAX))


@pytest.mark.parametrize("ours", [True, False], ids=["aiopoll", "asyncio"])
def test_loops_write_blocks_of_one_file(tmp_path: Path, ours: bool) -> None:
    path, size = tmp_path / "blocks", 4096

    async def write_and_read(number: int) -> None:
        async with aiopoll.open(path, "r+b", buffering=0) as file:
            for round_ in range(ROUNDS):
                block = bytes([number + 1, round_]) * (size // 2)
                offset = (round_ * THREADS + number) * size
                await asyncio.gather(file.pwrite(block, offset), file.fsync())
                assert await file.pread(size, offset) == block
            await file.truncate(ROUNDS * THREADS * size)

    path.write_bytes(b"\0" * ROUNDS * THREADS * size)
    if ours:
        run_in_loops(write_and_read, {})
    else:
        in_threads([partial(run_stock, write_and_read, n) for n in range(THREADS)])
    data = path.read_bytes()
    for at in range(ROUNDS * THREADS):
        round_, number = divmod(at, THREADS)
        assert data[at * size : (at + 1) * size] == bytes([number + 1, round_]) * (size // 2)


def test_loops_use_one_descriptor_with_record_locks(
    plain_file: int, in_child: Callable[[Callable[[], object]], str]
) -> None:
    """Its duplicates are kept while the process has locks, and are one thread's at a time."""

    async def use(number: int) -> None:
        for _ in range(ROUNDS):
            async with aiopoll.open(plain_file, "rb", buffering=0, closefd=False) as file:
                assert await file.pread(2, number) == f"{number}{number + 1}".encode()

    run_in_loops(use, {}, 1)  # closes what an earlier test has left
    before = len(os.listdir("/proc/self/fd"))
    fcntl.lockf(plain_file, fcntl.LOCK_EX)
    run_in_loops(use, {})
    assert "BlockingIOError" in in_child(
        lambda: fcntl.lockf(plain_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    )
    fcntl.lockf(plain_file, fcntl.LOCK_UN)
    run_in_loops(use, {}, 1)  # closes what was kept
    assert len(os.listdir("/proc/self/fd")) == before
