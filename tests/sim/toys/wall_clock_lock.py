"""A lock service gives a lock for one second at most.

The bug: the second is measured with the wall clock, which NTP moves. The twin has a monotonic one.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from .rpc import ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = False


async def program(world: World, fixed: bool) -> None:
    working: set[str] = set()
    clock = time.monotonic if fixed else time.time

    async def locks() -> None:
        holder, until = "", 0.0

        async def handle(question: dict[str, Any]) -> bool:
            nonlocal holder, until
            if question["do"] == "release":
                if holder == question["name"]:
                    holder = ""
                return True
            if holder and clock() < until:
                return False
            holder, until = question["name"], clock() + 1.0
            return True

        await serve(handle)

    async def worker(name: str) -> None:
        while True:
            if await ask("locks", do="acquire", name=name):
                working.add(name)
                await asyncio.sleep(0.5)
                working.discard(name)
                await ask("locks", do="release", name=name)
            await asyncio.sleep(0.05)

    service = world.host("locks", locks)
    await world.sleep(0.1)
    for name in ("w0", "w1"):
        world.host(name, worker, name)
    world.always("one works", lambda: len(working) <= 1)
    for _ in range(3):
        await world.sleep(0.5 + world.tape.between("until the clock is set", 0, 500) / 1000)
        service.clock(jump=world.tape.between("clock jump", 0, 20) / 10 - 0.5)
    await world.sleep(2)
