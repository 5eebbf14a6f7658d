"""Two-phase commit: participants that are in doubt ask the coordinator for the outcome.

The bug: the coordinator writes its decision down after it has sent it. One that restarts in between
knows nothing of it, and says that the transaction was aborted.
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
PARTICIPANTS = ("p0", "p1")


async def program(world: World, fixed: bool) -> None:
    outcomes: dict[str, dict[int, str]] = {name: {} for name in PARTICIPANTS}

    async def participant(name: str) -> None:
        in_doubt: set[int] = set()

        async def handle(question: dict[str, Any]) -> bool:
            number = question["number"]
            if question["do"] == "prepare":
                in_doubt.add(number)
            elif number in in_doubt:
                in_doubt.discard(number)
                outcomes[name][number] = question["do"]
            return True

        async def resolve() -> None:
            while True:
                await asyncio.sleep(0.2)
                for number in sorted(in_doubt):
                    try:
                        async with asyncio.timeout(0.2):
                            outcome = await ask("coordinator", number=number)
                    except (OSError, TimeoutError):
                        continue
                    if outcome != "running":
                        await handle({"do": outcome, "number": number})

        async with asyncio.TaskGroup() as group:
            group.create_task(serve(handle))
            group.create_task(resolve())

    async def coordinator() -> None:
        running: set[int] = set()
        committed: set[int] = set()
        if os.path.exists("/commits"):
            with open("/commits") as file:
                committed.update(int(line) for line in file)

        def write_down(number: int) -> None:
            committed.add(number)
            with open("/commits", "a") as file:
                file.write(f"{number}\n")
            sync("/commits")
            sync("/")

        async def handle(question: dict[str, Any]) -> str:
            number = question["number"]
            if number in running:
                return "running"
            return "commit" if number in committed else "abort"

        async def commit(number: int) -> None:
            running.add(number)
            for name in PARTICIPANTS:
                await ask(name, do="prepare", number=number)
            if fixed:
                write_down(number)
            for name in PARTICIPANTS:
                await ask(name, do="commit", number=number)
            if not fixed:
                write_down(number)
            running.discard(number)

        async def work() -> None:
            for step in range(1000):
                await commit(host.starts * 1000 + step)
                await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            group.create_task(serve(handle))
            group.create_task(work())

    def agree() -> bool:
        first, second = outcomes.values()
        return all(second.get(number, outcome) == outcome for number, outcome in first.items())

    for name in PARTICIPANTS:
        world.host(name, participant, name)
    await world.sleep(0.1)
    host = world.host("coordinator", coordinator)
    world.always("the participants agree", agree)
    for _ in range(3):
        await world.sleep(world.tape.between("until crash", 20, 500) / 1000)
        host.crash()
        await world.sleep(0.05)
        host.restart()
    await world.sleep(2)
