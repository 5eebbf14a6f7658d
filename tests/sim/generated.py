"""Programs that a generator writes: hosts that talk, sleep, write files, lock and draw numbers.

Everything that a run could depend on without the tape is in them: random numbers, clocks, the order
of sets, threads, time-outs, files, names, crashes.
"""

import asyncio
import contextlib
import datetime
import os
import random
import secrets
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from aiopoll.sim import Host, World
from aiopoll.sim.inside import host as current_host

PORT = 9000
Log = list[tuple[str, float, str]]


class Server:
    """Stores what it is sent, and sends back what it had."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.values: dict[str, str] = {}
        self.peers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.add(writer)
        try:
            while line := await reader.readline():
                key, _, value = line.decode().strip().partition("=")
                before = self.values.get(key, "")
                self.values[key] = value
                await asyncio.sleep(random.random() / 1000)
                writer.write(f"{before}\n".encode())
                await writer.drain()
        except OSError as exc:
            self.log.append((current_host().name, time.monotonic(), f"serve {exc!r}"))
        finally:
            self.peers.discard(writer)
            writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, log: Log) -> None:
        self.log = log

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.log.append((current_host().name, time.monotonic(), f"datagram {data!r} {addr}"))
        if data.startswith(b"ping"):
            self.transport.sendto(b"pong" + data[4:], addr)


class Worker:
    """Runs `script`, a list of operations."""

    def __init__(self, name: str, script: list[tuple[Any, ...]], log: Log) -> None:
        self.name = name
        self.script = script
        self.log = log

    def note(self, text: object) -> None:
        self.log.append((self.name, time.time(), str(text)))

    async def run(self, shared: dict[str, Any]) -> None:
        for operation, *arguments in self.script:
            with contextlib.suppress(OSError, TimeoutError):
                await getattr(self, operation)(shared, *arguments)

    async def sleep(self, shared: dict[str, Any], seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def call(self, shared: dict[str, Any], peer: str, key: str, limit: float) -> None:
        try:
            async with asyncio.timeout(limit):
                reader, writer = await asyncio.open_connection(peer, PORT)
                try:
                    writer.write(f"{key}={self.name}{secrets.token_hex(2)}\n".encode())
                    await writer.drain()
                    self.note(await reader.readline())
                finally:
                    writer.close()
        except (OSError, TimeoutError) as exc:
            self.note(f"{type(exc).__name__} {exc}")

    async def ping(self, shared: dict[str, Any], peer: str, size: int) -> None:
        shared["udp"].sendto(b"ping" + b"x" * size, (shared["addresses"][peer], PORT))

    async def write(self, shared: dict[str, Any], name: str, size: int, sync: bool) -> None:
        with open(f"/{name}", "ab") as file:
            file.write(os.urandom(size))
            file.flush()
            if sync:
                os.fsync(file.fileno())
        self.note(f"{name} {os.stat(f'/{name}').st_size}")

    async def draw(self, shared: dict[str, Any]) -> None:
        self.note((random.random(), uuid.uuid4(), datetime.datetime.now(), os.getpid()))
        self.note((random.Random().random(), time.perf_counter(), os.urandom(3)))

    async def thread(self, shared: dict[str, Any], seconds: float) -> None:
        def work() -> float:
            time.sleep(seconds)
            return time.monotonic()

        self.note(await asyncio.to_thread(work))

    async def order(self, shared: dict[str, Any], words: list[str]) -> None:
        async def one(word: str) -> str:
            await asyncio.sleep(0.001)
            return word

        self.note(list(set(words)))
        tasks = {asyncio.create_task(one(word)) for word in words}
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self.note([task.result() for task in done])
        for task in pending:
            task.cancel()
        self.note([await task for task in asyncio.as_completed(map(one, words))])

    async def lock(self, shared: dict[str, Any], seconds: float) -> None:
        async with shared["lock"]:
            before = shared["count"]
            await asyncio.sleep(seconds)
            shared["count"] = before + 1
            self.note(shared["count"])

    async def race(self, shared: dict[str, Any]) -> None:
        before = shared["races"]
        await asyncio.sleep(0)
        shared["races"] = before + 1
        self.note(shared["races"])


def script_of(chance: random.Random, hosts: list[str]) -> list[tuple[Any, ...]]:
    words = [f"word{number}" for number in range(chance.randrange(2, 6))]
    kinds: list[Callable[[], tuple[Any, ...]]] = [
        lambda: ("sleep", chance.choice([0, 0.001, 0.01, 0.5])),
        lambda: ("call", chance.choice(hosts), chance.choice("abc"), chance.choice([0.01, 1, 9])),
        lambda: ("ping", chance.choice(hosts), chance.randrange(50)),
        lambda: ("write", chance.choice("xy"), chance.randrange(1, 9000), chance.random() < 0.5),
        lambda: ("draw",),
        lambda: ("thread", chance.choice([0, 0.01])),
        lambda: ("order", words),
        lambda: ("lock", chance.choice([0, 0.002])),
        lambda: ("race",),
    ]
    return [chance.choice(kinds)() for _ in range(chance.randrange(3, 12))]


def program_of(number: int) -> Callable[[World], Coroutine[Any, Any, Log]]:
    """Return the program of a number: the same in every process."""
    chance = random.Random(f"program {number}")
    names = [f"n{index}" for index in range(chance.randrange(1, 4))]
    scripts = {
        name: [script_of(chance, names) for _ in range(chance.randrange(1, 4))] for name in names
    }
    links = [
        (one, other, chance.choice([0.0, 0.02, 0.3]), chance.choice([0.0, 0.1]))
        for one in names
        for other in names
        if one < other
    ]
    faults = [
        (chance.choice(["crash", "kill", "pause"]), chance.choice(names), chance.uniform(0, 2))
        for _ in range(chance.randrange(3))
    ]

    async def program(world: World) -> Log:
        log: Log = []

        async def main(host: Host) -> None:
            loop = asyncio.get_running_loop()
            server = await asyncio.start_server(Server(log).serve, "0.0.0.0", PORT)
            udp, _ = await loop.create_datagram_endpoint(
                lambda: Datagrams(log), local_addr=("0.0.0.0", PORT)
            )
            shared: dict[str, Any] = {
                "udp": udp,
                "lock": asyncio.Lock(),
                "count": 0,
                "races": 0,
                "addresses": {name: host.world.hosts[name].address for name in names},
            }
            workers = [
                Worker(f"{host.name}.{index}", script, log).run(shared)
                for index, script in enumerate(scripts[host.name])
            ]
            await asyncio.sleep(0.1)
            await asyncio.gather(*workers)
            async with server:
                await server.serve_forever()

        for name in names:
            world.host(name, main)
        for one, other, loss, duplicate in links:
            world.link(one, other, loss=loss, duplicate=duplicate)
        for fault, name, seconds in faults:
            await world.sleep(seconds)
            host = world.hosts[name]
            getattr(host, fault)()
            await world.sleep(0.3)
            if fault == "pause":
                host.resume()
            else:
                host.restart()
        await world.sleep(10)
        return log

    return program
