"""4 KiB reads at random places of a file: cold ones from the disk, hot ones from the page cache."""

import argparse
import asyncio
import random
import time
from array import array
from collections.abc import Iterator

from benchmarks import files, fio, program
from benchmarks.implementations import FILES
from benchmarks.workload import Workload

WORKLOADS = [
    Workload(
        name=f"file-reads-cold-{depth}",
        title=f"cold random reads of 4 KiB, {depth} at a time",
        program="file_reads",
        options=("--depth", str(depth)),
        implementations=FILES,
        unit="read",
        alone=True,
    )
    for depth in (1, 8, 32, 128)
] + [
    Workload(
        name="file-reads-hot-32",
        title="random reads of 4 KiB from the page cache, 32 at a time",
        program="file_reads",
        options=("--depth", "32", "--hot"),
        implementations=FILES[1:],
        unit="read",
        alone=True,
    )
]

COLD_MIB, HOT_MIB, SMALL_MIB = 1024, 64, 4


def offsets(size: int) -> Iterator[int]:
    """Every block once in an order that no read-ahead guesses, and again.

    A linear congruence of full period, for the number of blocks is a power of two.
    """
    block = random.randrange(size // files.BLOCK)
    while True:
        block = (block * 1664525 + 1013904223) % (size // files.BLOCK)
        yield block * files.BLOCK


async def main(arguments: argparse.Namespace) -> None:
    mib = HOT_MIB if arguments.hot else COLD_MIB
    path = files.data_file("reads", SMALL_MIB if arguments.operations else mib)
    if arguments.implementation == "fio":
        fio.run(arguments, path, "randread", arguments.depth)
        return
    (files.remember if arguments.hot else files.forget)(path)
    places = offsets(path.stat().st_size)
    latencies_ns = array("q")
    async with files.opened(
        arguments.implementation, path, arguments.depth, direct=not arguments.hot
    ) as blocks:

        async def read_some(count: int) -> None:
            for _ in range(count):
                began = time.perf_counter_ns()
                data = await blocks.read(next(places))
                latencies_ns.append(time.perf_counter_ns() - began)
                if data != files.PATTERN:
                    raise SystemExit(f"what was read is wrong: {data[:16]!r}…")

        async def batch(count: int) -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(arguments.depth):
                    group.create_task(read_some(max(1, count // arguments.depth)))

        # A batch of many for each task, so that few wait for the last.
        await program.measure(batch, arguments.depth * 128, arguments, latencies_ns)


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--depth", type=int, required=True)
    parser.add_argument("--hot", action="store_true")
    program.run(parser.parse_args(), main)
