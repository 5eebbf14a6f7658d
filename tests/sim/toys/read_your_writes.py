"""A primary takes writes and passes them on; a replica serves the reads.

The bug: the replica replies with what it has. The twin's reader names the version that it has seen,
and the replica waits for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .rpc import ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True


async def program(world: World, fixed: bool) -> None:
    async def primary() -> None:
        version = 0
        passing: set[asyncio.Task[Any]] = set()

        async def handle(question: dict[str, Any]) -> int:
            nonlocal version
            version += 1
            task = asyncio.create_task(
                ask("replica", do="apply", version=version, value=question["value"])
            )
            passing.add(task)
            task.add_done_callback(passing.discard)
            return version

        await serve(handle)

    async def replica() -> None:
        version, value = 0, None
        changed = asyncio.Condition()

        async def handle(question: dict[str, Any]) -> Any:
            nonlocal version, value
            async with changed:
                if question["do"] == "apply":
                    if question["version"] > version:
                        version, value = question["version"], question["value"]
                        changed.notify_all()
                elif fixed:
                    await changed.wait_for(lambda: version >= question["version"])
                return value

        await serve(handle)

    world.host("primary", primary)
    world.host("replica", replica)
    await world.sleep(0.1)
    for number in range(8):
        writing = world.history.invoke("client", "put", "x", number)
        version = await ask("primary", value=number)
        writing.ok()
        await world.sleep(0.004)
        await world.history.call(
            "client", "get", "x", call=ask("replica", do="get", version=version)
        )
    world.linearizable(world.history)
