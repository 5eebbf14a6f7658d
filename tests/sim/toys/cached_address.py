"""A client asks a registry where the database is. The database moves when its machine dies.

The bug: the client asks the registry once, and goes on with the dead address.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .rpc import ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True


async def program(world: World, fixed: bool) -> None:
    active = "db0"
    served: list[str] = []

    async def registry() -> None:
        async def handle(question: dict[str, Any]) -> str:
            return active

        await serve(handle)

    async def database(name: str) -> None:
        async def handle(question: dict[str, Any]) -> str:
            return name

        await serve(handle)

    async def client() -> None:
        address = None
        while True:
            try:
                async with asyncio.timeout(0.3):
                    if address is None:
                        address = await ask("registry")
                    served.append(await ask(address))
            except (OSError, TimeoutError):
                if fixed:
                    address = None
            await asyncio.sleep(0.05)

    world.host("registry", registry)
    hosts = [world.host(name, database, name) for name in ("db0", "db1")]
    await world.sleep(0.1)
    world.host("client", client)
    await world.sleep(0.5)
    if world.tape.chance("db0 dies", 0.3):
        hosts[0].crash()
        await world.sleep(0.2)
        active = "db1"
    await world.eventually("it is served", lambda: served[-1:] == [active], within=20)
