"""Crowds: no descriptors left, connections that are reset, tens of thousands that are open."""

import asyncio
import resource
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiopoll

EMFILE_PROGRAM = """
import asyncio, os, resource, socket, sys, aiopoll

CLIENTS, ROOM = 30, 16
options = eval(sys.argv[1])
reports = []

class Server(asyncio.Protocol):
    open = set()
    served = 0

    def connection_made(self, transport):
        self.transport = transport
        Server.open.add(transport)
        Server.served += 1

    def connection_lost(self, exc):
        Server.open.discard(self.transport)

async def main():
    loop = asyncio.get_running_loop()
    full = asyncio.Event()

    def report(loop, context):
        reports.append(context)
        full.set()

    loop.set_exception_handler(report)
    listener = socket.create_server(("127.0.0.1", 0), backlog=CLIENTS)
    # They are connected before any accept: the kernel completes the handshake.
    clients = [socket.create_connection(listener.getsockname()) for _ in range(CLIENTS)]
    server = await loop.create_server(Server, sock=listener, start_serving=False)
    limit = len(os.listdir("/proc/self/fd")) - 1 + ROOM
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    await server.start_serving()
    await full.wait()
    turns, told = loop.statistics().iterations, len(reports)
    await asyncio.sleep(0.2)
    assert loop.statistics().iterations - turns < 20, "it spins"
    assert len(reports) - told < 3, "it logs without end"
    assert Server.served >= ROOM - 2, Server.served
    while Server.served < CLIENTS:
        for transport in list(Server.open):
            transport.abort()
        await asyncio.sleep(0.05)
    for context in reports:
        assert isinstance(context["exception"], OSError), context
        assert context["exception"].errno in (23, 24), context
    assert reports
    server.close()
    for transport in Server.open:
        transport.abort()
    await asyncio.sleep(0)
    for client in clients:
        client.close()
    print("served", Server.served)

aiopoll.run(main(), **options)
"""


@pytest.mark.subprocess
def test_accept_without_descriptors_backs_off_and_recovers(loop_options: dict[str, Any]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EMFILE_PROGRAM, repr(loop_options)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "served 30\n", done.stderr


class Echo(asyncio.Protocol):
    """Counts open connections; each must get connection_lost() once."""

    made = lost = 0

    def connection_made(self, transport: Any) -> None:
        type(self).made += 1
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        type(self).lost += 1


def storm(address: tuple[str, int], count: int) -> None:
    """Connections that are reset: before they are accepted, and with data in either direction."""
    linger = struct.pack("ii", 1, 0)
    for number in range(count):
        with socket.create_connection(address) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            if number % 3:
                client.sendall(bytes(number % 5000 + 1))
            if number % 3 == 2:
                client.recv(1)


@pytest.mark.soak
def test_a_storm_of_resets_while_others_are_served(
    loop: aiopoll.EventLoop, soak: Callable[[int], int]
) -> None:
    class Server(Echo):
        pass

    async def steady(address: tuple[str, int], storming: threading.Thread) -> int:
        reader, writer = await asyncio.open_connection(*address)
        rounds = 0
        while storming.is_alive() or rounds < 100:
            rounds += 1
            message = rounds.to_bytes(8, "big") * 50
            writer.write(message)
            assert await reader.readexactly(400) == message
        writer.close()
        await writer.wait_closed()
        return rounds

    async def scenario() -> None:
        server = await loop.create_server(Server, "127.0.0.1", 0, backlog=256)
        address = server.sockets[0].getsockname()
        storming = threading.Thread(target=storm, args=(address, soak(1500)), daemon=True)
        storming.start()
        await asyncio.gather(*(steady(address, storming) for _ in range(5)))
        storming.join()
        server.close()
        # Some were reset while they waited to be accepted: Linux still returns them.
        while Server.lost < Server.made:
            await asyncio.sleep(0)
        assert Server.lost == Server.made > 1000

    loop.run_until_complete(scenario())


CROWD_PROGRAM = """
import resource, socket, sys

family, addresses, first, count = eval(sys.argv[1])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
crowd = []
for number in range(first, first + count):
    sock = socket.socket(family)
    sock.connect(addresses[number % len(addresses)])
    sock.sendall(number.to_bytes(4, "big"))
    crowd.append(sock)
print("connected", flush=True)
for line in sys.stdin:
    for number in map(int, line.split()):
        crowd[number - first].sendall(b"speak" + number.to_bytes(4, "big"))
    for number in map(int, line.split()):
        answer = crowd[number - first].recv(9, socket.MSG_WAITALL)
        assert answer == b"heard" + number.to_bytes(4, "big"), answer
    print("answered", flush=True)
"""

CROWD = 30_000
SPARE = 500  # descriptors for everything else


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("backend", "family"),
    [("aio", socket.AF_INET), ("epoll", socket.AF_UNIX)],
    ids=["aio-tcp", "epoll-unix"],
)
def test_tens_of_thousands_are_open_and_any_may_send(
    backend: str, family: socket.AddressFamily, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    crowd = min(CROWD, hard - SPARE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        loop = aiopoll.new_event_loop(backend=backend)
        try:
            loop.run_until_complete(serve_crowd(loop, family, tmp_path, crowd))
        finally:
            loop.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if crowd < CROWD:
        pytest.skip(reason="skips.toml: 30,000 connections in one process")


async def serve_crowd(
    loop: aiopoll.EventLoop, family: socket.AddressFamily, tmp_path: Path, crowd: int
) -> None:
    members: dict[int, Any] = {}
    listeners: list[asyncio.AbstractServer] = []

    class Member(asyncio.Protocol):
        number: int | None = None

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            if self.number is None:
                self.number = int.from_bytes(data[:4], "big")
                members[self.number] = self
            else:
                assert data == b"speak" + self.number.to_bytes(4, "big")
                self.transport.write(b"heard" + data[5:])

        def connection_lost(self, exc: Exception | None) -> None:
            if self.number is not None:
                del members[self.number]

    addresses: list[Any] = []
    if family == socket.AF_UNIX:
        addresses.append(str(tmp_path / "crowd"))
        listeners.append(await loop.create_unix_server(Member, addresses[0], backlog=4096))
    else:  # a client's ports are 28,000 an address
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            server = await loop.create_server(Member, host, 0, backlog=4096)
            listeners.append(server)
            addresses.append(server.sockets[0].getsockname())

    half = crowd // 2
    children = [
        await asyncio.to_thread(
            subprocess.Popen,
            [
                sys.executable,
                "-c",
                CROWD_PROGRAM,
                repr((int(family), addresses, first, count)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first, count in ((0, half), (half, crowd - half))
    ]
    try:

        async def answer(child: Any, line: str) -> None:
            if line:
                child.stdin.write(line + "\n")
                child.stdin.flush()
            assert (await asyncio.to_thread(child.stdout.readline)) in (
                "connected\n",
                "answered\n",
            )

        await asyncio.gather(*(answer(child, "") for child in children))
        while len(members) < crowd:
            await asyncio.sleep(0.001)
        statistics = loop.statistics()
        assert statistics.watched >= crowd
        assert statistics.in_flight <= max(2048, 2 * statistics.nr_events)
        # The first, the last, some in between; one by one and many at once.
        some = [*range(0, crowd, 97), crowd - 1]
        for speakers in ([0], [crowd - 1], some, [*range(half - 300, half + 300)]):
            parts = [
                " ".join(str(n) for n in speakers if (n >= half) == second)
                for second in (False, True)
            ]
            await asyncio.gather(
                *(answer(child, line) for child, line in zip(children, parts, strict=True) if line)
            )
        turns = loop.statistics().iterations
        await asyncio.sleep(0.05)
        assert loop.statistics().iterations - turns < 20, "it spins"
        for child in children:
            child.stdin.close()  # type: ignore[union-attr]
        while members:
            await asyncio.sleep(0.001)
    finally:
        for child in children:
            child.kill()
            await asyncio.to_thread(child.wait)
            child.stdout.close()  # type: ignore[union-attr]
        for server in listeners:
            server.close()
        await loop.shutdown_default_executor()
    assert loop.statistics().watched < 10
