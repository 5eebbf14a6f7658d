"""A callback that schedules itself again, and again."""

import argparse
import asyncio

from benchmarks import program
from benchmarks.workload import Workload

WORKLOADS = [
    Workload(name="call-soon", title="call_soon chain", program="call_soon", unit="callback")
]


async def main(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()

    async def chain(length: int) -> None:
        done = loop.create_future()
        left = length

        def step() -> None:
            nonlocal left
            left -= 1
            if left:
                loop.call_soon(step)
            else:
                done.set_result(None)

        loop.call_soon(step)
        await done

    await program.measure(chain, 100_000, arguments)


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
