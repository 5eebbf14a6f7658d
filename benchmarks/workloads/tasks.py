"""Tasks that alternate, and tasks that are made, run and awaited."""

import argparse
import asyncio

from benchmarks import program
from benchmarks.workload import Workload

TASKS = 100

WORKLOADS = [
    Workload(
        name="task-switches",
        title=f"switches between {TASKS} tasks by sleep(0)",
        program="tasks",
        unit="switch",
    ),
    Workload(
        name="task-futures",
        title="two tasks that wake each other by futures",
        program="tasks",
        options=("--futures",),
        unit="switch",
    ),
]


async def yield_often(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def switch(count: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(yield_often(max(1, count // TASKS)))


async def hand_over(count: int) -> None:
    loop = asyncio.get_running_loop()
    turns: list[asyncio.Future[None]] = [loop.create_future(), loop.create_future()]

    async def player(mine: int) -> None:
        for _ in range(count // 2):
            await turns[mine]
            turns[mine] = loop.create_future()
            turns[1 - mine].set_result(None)

    players = [asyncio.create_task(player(mine)) for mine in (0, 1)]
    turns[0].set_result(None)
    await asyncio.gather(*players)


async def main(arguments: argparse.Namespace) -> None:
    await program.measure(hand_over if arguments.futures else switch, 20_000, arguments)


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--futures", action="store_true")
    program.run(parser.parse_args(), main)
