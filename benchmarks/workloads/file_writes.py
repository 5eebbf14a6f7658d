"""4 KiB written over at random places of a file, each on the disk before it is counted."""

import argparse
import asyncio
import os
import time
from array import array
from collections import deque

from benchmarks import files, fio, program
from benchmarks.implementations import FILES
from benchmarks.workload import Workload
from benchmarks.workloads.file_reads import HOT_MIB, SMALL_MIB, offsets

WORKLOADS = [
    Workload(
        name=f"file-writes-durable-{depth}",
        title=f"durable writes of 4 KiB, {depth} at a time",
        program="file_writes",
        options=("--depth", str(depth)),
        implementations=FILES,
        unit="write",
    )
    for depth in (1, 32)
]


async def main(arguments: argparse.Namespace) -> None:
    path = files.data_file("writes", SMALL_MIB if arguments.operations else HOT_MIB)
    if arguments.implementation == "fio":
        fio.run(arguments, path, "randwrite", arguments.depth)
        return
    files.forget(path)
    places = offsets(path.stat().st_size)
    latencies_ns = array("q")
    written: deque[tuple[int, bytes]] = deque(maxlen=64)
    async with files.opened(arguments.implementation, path, arguments.depth, direct=True) as blocks:

        async def write_some(count: int) -> None:
            for _ in range(count):
                offset, data = next(places), os.urandom(8) * (files.BLOCK // 8)
                began = time.perf_counter_ns()
                await blocks.write(data, offset)
                latencies_ns.append(time.perf_counter_ns() - began)
                written.append((offset, data))

        async def batch(count: int) -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(arguments.depth):
                    group.create_task(write_some(max(1, count // arguments.depth)))

        def check() -> dict[str, float]:
            """The last write is there, as another open file sees it."""
            with open(path, "rb") as file:
                for offset, data in written:
                    if os.pread(file.fileno(), files.BLOCK, offset) != data:
                        raise SystemExit(f"what was written at {offset} is not there")
            return {}

        await program.measure(batch, arguments.depth * 32, arguments, latencies_ns, at_end=check)


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--depth", type=int, required=True)
    program.run(parser.parse_args(), main)
