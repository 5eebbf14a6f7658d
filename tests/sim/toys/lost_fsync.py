"""A journal with group commit: lines are fsynced together, every 20 ms.

The bug: a line is acknowledged when it is written, not when its group is on the disk.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from .durable import sync
from .rpc import ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = False


async def program(world: World, fixed: bool) -> None:
    async def journal() -> None:
        with open("/journal", "a") as file:
            sync("/")
            waiting: list[asyncio.Future[None]] = []

            async def handle(question: dict[str, Any]) -> list[str]:
                if question["do"] == "lines":
                    with open("/journal") as lines:
                        return lines.read().split()
                file.write(f"{question['line']}\n")
                file.flush()
                on_disk = asyncio.get_running_loop().create_future()
                waiting.append(on_disk)
                if fixed:
                    await on_disk
                return []

            async def commit() -> None:
                while True:
                    await asyncio.sleep(0.02)
                    group, waiting[:] = waiting[:], []
                    if group:
                        os.fsync(file.fileno())
                    for on_disk in group:
                        if not on_disk.done():
                            on_disk.set_result(None)

            async with asyncio.TaskGroup() as group:
                group.create_task(commit())
                group.create_task(serve(handle))

    host = world.host("journal", journal)
    acknowledged: list[str] = []

    async def client() -> None:
        for number in range(1000):
            await ask("journal", do="append", line=f"line{number}")
            acknowledged.append(f"line{number}")
            await asyncio.sleep(0.015)

    await world.sleep(0.1)
    writer = asyncio.create_task(client())
    await world.sleep(world.tape.between("until crash", 50, 500) / 1000)
    host.crash()
    writer.cancel()
    await asyncio.wait([writer])
    host.restart()
    await world.sleep(0.1)
    kept = await ask("journal", do="lines")
    lost = [line for line in acknowledged if line not in kept]
    assert not lost, f"acknowledged and lost: {lost}"
