"""A cash machine service looks up the balance in a database, and then lowers it.

The bug: between the two, another withdrawal sees the same balance. The twin holds a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from .rpc import ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True


async def program(world: World, fixed: bool) -> None:
    paid = 0
    done = 0

    async def database() -> None:
        balance = 100

        async def handle(question: dict[str, Any]) -> int:
            nonlocal balance
            balance = question.get("balance", balance)
            return balance

        await serve(handle)

    async def bank() -> None:
        lock = asyncio.Lock()

        async def handle(question: dict[str, Any]) -> bool:
            async with lock if fixed else contextlib.AsyncExitStack():
                balance = await ask("database")
                if balance < question["amount"]:
                    return False
                await ask("database", balance=balance - question["amount"])
                return True

        await serve(handle)

    async def customer(amount: int) -> None:
        nonlocal paid, done
        for _ in range(3):
            if await ask("bank", amount=amount):
                paid += amount
            await asyncio.sleep(0.1)
        done += 1

    world.host("database", database)
    world.host("bank", bank)
    await world.sleep(0.1)
    world.always("no more is paid than there was", lambda: paid <= 100)
    for number, amount in enumerate((20, 30)):
        world.host(f"customer{number}", customer, amount)
        await world.sleep(0.05)
    await world.eventually("all have asked", lambda: done == 2, within=30)
    left = await ask("database")
    assert paid + left == 100, f"{paid} was paid, and {left} is left"
