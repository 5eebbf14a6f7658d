"""A bank with a lock for each account; a transfer needs two, and an audit service sees it.

The bug: a transfer locks the source first. Two transfers between the same accounts, in opposite
directions, wait for one another. The twin locks in the order of the names.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .rpc import ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True


async def program(world: World, fixed: bool) -> None:
    balances = {"ann": 100, "bob": 100, "cid": 100}
    done = 0

    async def audit() -> None:
        async def handle(question: dict[str, Any]) -> bool:
            return True

        await serve(handle)

    async def bank() -> None:
        locks = {name: asyncio.Lock() for name in balances}

        async def handle(question: dict[str, Any]) -> int:
            source, target = question["source"], question["target"]
            first, second = sorted((source, target)) if fixed else (source, target)
            async with locks[first]:
                await ask("audit", **question)
                async with locks[second]:
                    balances[source] -= 1
                    balances[target] += 1
                    return balances[source]

        await serve(handle)

    async def client(source: str, target: str) -> None:
        nonlocal done
        for _ in range(3):
            await ask("bank", source=source, target=target)
            await asyncio.sleep(0.1)
        done += 1

    world.host("audit", audit)
    world.host("bank", bank)
    await world.sleep(0.1)
    pairs = [("ann", "bob"), ("bob", "cid"), ("cid", "ann")]
    for number, (source, target) in enumerate(pairs):
        world.host(f"c{number}", client, source, target)
        await world.sleep(0.015)
    await world.eventually("all transfers are done", lambda: done == 3, within=30)
    assert sum(balances.values()) == 300
