"""A counter whose clients ask again when no reply came in time.

The bug: the counter counts a question each time that it arrives. The twin knows those it has had.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiopoll.sim.history import Counter

from .rpc import ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True


async def program(world: World, fixed: bool) -> None:
    async def counter() -> None:
        value = 0
        replies: dict[str, int] = {}

        async def handle(question: dict[str, Any]) -> int:
            nonlocal value
            if fixed and question["id"] in replies:
                return replies[question["id"]]
            value += 1
            replies[question["id"]] = value
            return value

        await serve(handle)

    async def client(name: str) -> None:
        for number in range(4):
            operation = world.history.invoke(name, "increment")
            while True:
                try:
                    async with asyncio.timeout(0.04):
                        operation.ok(await ask("counter", id=f"{name} {number}"))
                        break
                except (TimeoutError, OSError):
                    await asyncio.sleep(0.01)

    world.host("counter", counter)
    await world.sleep(0.1)
    clients = [world.host(name, client, name) for name in ("c0", "c1")]
    for host in clients:
        world.link(host, "counter", latency=(0.001, 0.022))
    done = lambda: sum(operation.is_certain for operation in world.history) == 8  # noqa: E731
    await world.eventually("all have counted", done, within=60)
    world.linearizable(world.history, Counter())
