"""A settings service replaces its file with a rename, as one should.

The bug: the file is fsynced, but the directory is not. After a crash the old name has the old file.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

from .durable import sync
from .rpc import ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = False


async def program(world: World, fixed: bool) -> None:
    async def settings() -> None:
        async def handle(question: dict[str, Any]) -> int:
            if question["do"] == "put":
                with open("/settings.new", "w") as file:
                    json.dump(question["version"], file)
                sync("/settings.new")
                os.replace("/settings.new", "/settings")
                if fixed:
                    sync("/")
            try:
                with open("/settings") as file:
                    return int(json.load(file))
            except FileNotFoundError:
                return 0

        await serve(handle)

    host = world.host("settings", settings)
    await world.sleep(0.1)
    begun = stored = 0

    async def administrator() -> None:
        nonlocal begun, stored
        while True:
            begun += 1
            await ask("settings", do="put", version=begun)
            stored = begun
            await asyncio.sleep(0.05)

    change = asyncio.create_task(administrator())
    await world.sleep(world.tape.between("until crash", 20, 400) / 1000)
    host.crash(torn=True)
    change.cancel()
    await asyncio.wait([change])
    host.restart()
    await world.sleep(0.1)
    found = await ask("settings", do="get")
    assert stored <= found <= begun, f"version {stored} was stored, {found} is there"
