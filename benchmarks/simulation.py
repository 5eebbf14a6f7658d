"""How fast aiopoll.sim is: echoes, idle hours, a replicated log, and many connections.

python -m benchmarks.simulation [NAME …]

Each line is one run in a process of its own: figures of time are wall time, those of memory growth
of the resident set.
"""

import argparse
import asyncio
import multiprocessing
import resource
import time
from collections.abc import Callable, Coroutine
from typing import Any

from aiopoll.sim import Host, World
from aiopoll.sim.run import run_once
from aiopoll.sim.tape import tape_of

Program = Callable[[World], Coroutine[Any, Any, Any]]
PORT = 7000
CONNECTIONS = 10


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(host: Host) -> None:
    server = await asyncio.start_server(echo, "0.0.0.0", PORT, backlog=20_000)
    async with server:
        await server.serve_forever()


async def talk(address: str, count: int) -> None:
    reader, writer = await asyncio.open_connection(address, PORT)
    for _ in range(count):
        writer.write(b"x" * 64)
        await reader.readexactly(64)
    writer.close()
    await writer.wait_closed()


def echoes(count: int, *, apart: bool) -> Program:
    async def program(world: World) -> int:
        address = "127.0.0.1"
        if apart:
            address = world.host("server", serve).address
        else:
            await asyncio.start_server(echo, "0.0.0.0", PORT)
        await world.sleep(0.1)
        each = count // CONNECTIONS
        await asyncio.gather(*(talk(address, each) for _ in range(CONNECTIONS)))
        return count

    return program


def heartbeats(*, apart: bool) -> Program:
    async def beat() -> None:
        for _ in range(3600):
            await asyncio.sleep(1)

    async def program(world: World) -> int:
        if apart:
            for number in range(10):
                world.host(f"n{number}", beat)
            await world.sleep(3601)
        else:
            await asyncio.gather(*(beat() for _ in range(10)))
        return 36_000

    return program


async def raft(world: World) -> int:
    """Sixty seconds of a leader that replicates to four: an append each 50 ms, and its reply."""
    appended: dict[str, int] = {}

    async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(b"ok " + line)

    async def node(host: Host) -> None:
        server = await asyncio.start_server(follow, "0.0.0.0", PORT)
        async with server:
            await asyncio.sleep(0.1)
            if host.name == "n0":
                peers = [world.hosts[f"n{number}"].address for number in range(1, 5)]
                await asyncio.gather(*(replicate(host, address) for address in peers))
            await server.serve_forever()

    async def replicate(host: Host, address: str) -> None:
        reader, writer = await asyncio.open_connection(address, PORT)
        while True:
            writer.write(b"append %d\n" % appended.get(address, 0))
            async with asyncio.timeout(1):
                await reader.readline()
            appended[address] = appended.get(address, 0) + 1
            await asyncio.sleep(0.05)

    for number in range(5):
        world.host(f"n{number}", node)
    await world.sleep(60)
    return sum(appended.values())


def in_sequence(count: int) -> Program:
    async def program(world: World) -> int:
        address = world.host("server", serve).address
        await world.sleep(0.1)
        for _ in range(count):
            await talk(address, 1)
        return count

    return program


def at_once(count: int) -> Program:
    async def program(world: World) -> int:
        address = world.host("server", serve).address
        await world.sleep(0.1)
        streams = []
        for _ in range(count // 100):
            streams += await asyncio.gather(
                *(asyncio.open_connection(address, PORT) for _ in range(100))
            )
        return len(streams)

    return program


WORKLOADS: dict[str, Program] = {
    "echoes-one-host": echoes(20_000, apart=False),
    "echoes-two-hosts": echoes(20_000, apart=True),
    "hour-of-ten-heartbeats": heartbeats(apart=False),
    "hour-of-ten-hosts": heartbeats(apart=True),
    "raft-60-s": raft,
    "connections-in-sequence-100000": in_sequence(100_000),
    "connections-at-once-10000": at_once(10_000),
}


def measure(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    outcome = run_once(WORKLOADS[name], tape_of(0))
    seconds = time.perf_counter() - start
    if outcome.error is not None:
        raise outcome.error
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    rate = outcome.result / seconds
    print(
        f"{name:32} {outcome.result:>7} in {seconds:6.2f} s, {rate:>8.0f}/s, {grown:6.1f} MiB more"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(WORKLOADS))
    for name in parser.parse_args().names or WORKLOADS:
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(name,))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
