"""Timers: set and cancelled at once; a million set, then cancelled; due."""

import argparse
import asyncio

from benchmarks import program
from benchmarks.workload import Workload

TITLES = {
    "cancel": "call_later and cancel",
    "million": "a million timers set, then all cancelled",
    "due": "timers that come due",
}

WORKLOADS = [
    Workload(
        name=f"timers-{kind}",
        title=title,
        program="timers",
        options=("--kind", kind),
        unit="timer",
    )
    for kind, title in TITLES.items()
]


def nothing() -> None:
    pass


async def main(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()

    async def cancel(count: int) -> None:
        for _ in range(count):
            loop.call_later(60, nothing).cancel()
        await asyncio.sleep(0)

    async def million(count: int) -> None:
        handles = [loop.call_later(60 + index % 1000, nothing) for index in range(count)]
        await asyncio.sleep(0)
        for handle in handles:
            handle.cancel()
        await asyncio.sleep(0)

    async def due(count: int) -> None:
        done = loop.create_future()
        left = count

        def fire() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        for index in range(count):
            loop.call_later(index % 100 * 1e-6, fire)
        await done

    kinds = {"cancel": (cancel, 10_000), "million": (million, 1_000_000), "due": (due, 10_000)}
    if arguments.kind == "million":
        arguments.warm_up = 0  # one batch takes seconds
    await program.measure(*kinds[arguments.kind], arguments)


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--kind", choices=TITLES, required=True)
    program.run(parser.parse_args(), main)
