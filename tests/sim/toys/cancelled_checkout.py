"""Three slots limit the questions that a gateway asks a database at once; each has a time-out.

The bug: between taking the slot and the `try` that gives it back, the gateway waits for an audit.
A question that is cancelled there takes its slot with it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .rpc import ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True


async def program(world: World, fixed: bool) -> None:
    free: asyncio.Queue[int] = asyncio.Queue()
    asked = 0

    async def service() -> None:
        async def handle(question: dict[str, Any]) -> bool:
            return True

        await serve(handle)

    async def use_database(number: int) -> None:
        slot = await free.get()
        if not fixed:
            await ask("audit", question=number)
        try:
            if fixed:
                await ask("audit", question=number)
            await ask("database", question=number)
        finally:
            free.put_nowait(slot)

    async def gateway() -> None:
        nonlocal asked
        for slot in range(3):
            free.put_nowait(slot)

        async def one(number: int) -> None:
            nonlocal asked
            try:
                async with asyncio.timeout(0.05):
                    await use_database(number)
            except TimeoutError:
                pass
            asked += 1

        async with asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(one(number))
                await asyncio.sleep(0.03)

    world.host("audit", service)
    world.host("database", service)
    await world.sleep(0.1)
    world.host("gateway", gateway)
    for name in ("audit", "database"):
        world.link("gateway", name, latency=(0.001, 0.028))
    await world.eventually("all were asked", lambda: asked == 12, within=30)
    assert free.qsize() == 3, f"{free.qsize()} of 3 slots are left"
