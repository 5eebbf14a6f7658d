"""A service does one thing at a time, in 30 ms; five clients want one every 0.3 s.

The bug: clients ask again after 0.1 s, at once and for ever, while the service still works on what
they gave up. One hiccup is enough: from then on all work is for nothing. The twin's clients wait
longer each time.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from .rpc import ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True
CLIENTS = 5


async def program(world: World, fixed: bool) -> None:
    served = dict.fromkeys(range(CLIENTS), 0.0)
    one_at_a_time = asyncio.Lock()
    hiccup = 0.0

    async def service() -> None:
        nonlocal hiccup

        async def handle(question: dict[str, Any]) -> bool:
            nonlocal hiccup
            async with one_at_a_time:
                pause, hiccup = hiccup, 0.0
                await asyncio.sleep(0.03 + pause)
            return True

        await serve(handle)

    async def client(number: int) -> None:
        await asyncio.sleep(number * 0.06)
        while True:
            limit = 0.1
            while True:
                try:
                    async with asyncio.timeout(limit):
                        await ask("service", client=number)
                    break
                except (OSError, TimeoutError):
                    if fixed:
                        limit *= 2
                        await asyncio.sleep(random.uniform(0, limit))
            served[number] = world.now()
            await asyncio.sleep(0.3)

    world.host("service", service)
    await world.sleep(0.1)
    for number in range(CLIENTS):
        world.host(f"c{number}", client, number)
    await world.sleep(1)
    if world.tape.chance("the service has a hiccup", 0.2):
        hiccup = world.tape.between("length of the hiccup in ms", 100, 500) / 1000
    await world.sleep(2)
    calm = lambda: world.now() - min(served.values()) < 1  # noqa: E731
    await world.eventually("each is served again", calm, within=4)
