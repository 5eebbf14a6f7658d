"""How long the loop stands still while a cold file is read from end to end: a 1 ms heartbeat."""

import argparse
import asyncio
import itertools
import time

from benchmarks import files, program
from benchmarks.implementations import FILES
from benchmarks.workload import Workload
from benchmarks.workloads.file_reads import COLD_MIB, SMALL_MIB

SIZE, DEPTH = 1 << 20, 4

WORKLOADS = [
    Workload(
        name="file-stall",
        title="longest gap of a 1 ms heartbeat while 1 GiB is read cold, 1 MiB at a time",
        program="file_stall",
        implementations=FILES[1:],
        unit="MiB",
        metric="stall_ms",
        small_operations=4,
        alone=True,
    )
]


async def main(arguments: argparse.Namespace) -> None:
    path = files.data_file("reads", SMALL_MIB if arguments.operations else COLD_MIB)
    files.forget(path)
    places = itertools.cycle(range(0, path.stat().st_size, SIZE))
    stall_ms = 0.0

    async def heartbeat() -> None:
        nonlocal stall_ms
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            stall_ms = max(stall_ms, (now - before) * 1e3 - 1)
            before = now

    async with files.opened(
        arguments.implementation, path, DEPTH, direct=True, size=SIZE
    ) as blocks:

        async def read_some(count: int) -> None:
            for _ in range(count):
                place = next(places)
                if len(await blocks.read(place)) != SIZE:
                    raise SystemExit("a read was short")

        async def batch(count: int) -> None:
            nonlocal stall_ms
            beating = asyncio.create_task(heartbeat())
            async with asyncio.TaskGroup() as group:
                for _ in range(DEPTH):
                    group.create_task(read_some(max(1, count // DEPTH)))
            beating.cancel()

        # No warm-up: it would be hot then.
        arguments.warm_up = 0
        await program.measure(batch, 256, arguments, at_end=lambda: {"stall_ms": stall_ms})


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
