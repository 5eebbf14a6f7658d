"""Callbacks handed to the loop by other threads.

In the caller's context, as asyncio has it, or in one that is given.  rloop does not copy the
caller's: where none is given its callbacks see none of the caller's context variables.
"""

import argparse
import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor

from benchmarks import program
from benchmarks.workload import Workload, counted

WORKLOADS = [
    Workload(
        name=f"call-soon-threadsafe-{threads}",
        title=f"call_soon_threadsafe from {counted(threads, 'thread')}",
        program="call_soon_threadsafe",
        options=("--threads", str(threads)),
        unit="callback",
    )
    for threads in (1, 4)
] + [
    Workload(
        name="call-soon-threadsafe-context",
        title="call_soon_threadsafe from 1 thread, with context=",
        program="call_soon_threadsafe",
        options=("--context",),
        unit="callback",
    )
]


async def main(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()

    async def hand_over(count: int) -> None:
        each = max(1, count // arguments.threads)
        done = loop.create_future()
        left = each * arguments.threads

        def step() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        def produce() -> None:
            if arguments.context:
                context = contextvars.copy_context()
                for _ in range(each):
                    loop.call_soon_threadsafe(step, context=context)
            else:
                for _ in range(each):
                    loop.call_soon_threadsafe(step)

        for future in [pool.submit(produce) for _ in range(arguments.threads)]:
            await asyncio.wrap_future(future)
        await done

    with ThreadPoolExecutor(arguments.threads) as pool:
        await program.measure(hand_over, 40_000, arguments)


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", action="store_true")
    program.run(parser.parse_args(), main)
