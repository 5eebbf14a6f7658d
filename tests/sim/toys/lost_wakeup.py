"""A worker takes jobs from a list, and waits for an event where there are none.

The bug: the worker looks, reports that it is idle, and clears the event. A job that came while it
reported has set the event in vain. The twin clears the event before it looks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .rpc import ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True


async def program(world: World, fixed: bool) -> None:
    done: list[int] = []

    async def monitor() -> None:
        async def handle(question: dict[str, Any]) -> bool:
            return True

        await serve(handle)

    async def worker() -> None:
        jobs: list[int] = []
        came = asyncio.Event()

        async def handle(question: dict[str, Any]) -> bool:
            jobs.append(question["job"])
            came.set()
            return True

        async def work() -> None:
            while True:
                if fixed:
                    came.clear()
                if not jobs:
                    await ask("monitor", worker="idle")
                    if not fixed:
                        came.clear()
                    await came.wait()
                while jobs:
                    done.append(jobs.pop(0))

        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            group.create_task(serve(handle))

    world.host("monitor", monitor)
    await world.sleep(0.1)
    world.host("worker", worker)
    await world.sleep(0.1)
    for job in range(6):
        await ask("worker", job=job)
        await world.sleep(0.01)
    await world.eventually("all jobs are done", lambda: len(done) == 6, within=10)
