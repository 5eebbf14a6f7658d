"""Workers change a value in a store under a lease of 0.3 s, which a lock service gives.

The bug: a worker whose question is late writes after its lease is over. The twin's store refuses
tokens that are older than one it has seen.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .rpc import ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True
LEASE = 0.3


async def program(world: World, fixed: bool) -> None:
    written = 0
    done = 0
    value = 0

    async def locks() -> None:
        token, is_held, until = 0, False, 0.0

        async def handle(question: dict[str, Any]) -> int:
            nonlocal token, is_held, until
            now = asyncio.get_running_loop().time()
            if question["do"] == "release":
                is_held = is_held and question["token"] != token
                return 0
            if is_held and now < until:
                return 0
            token, is_held, until = token + 1, True, now + LEASE
            return token

        await serve(handle)

    async def store() -> None:
        newest = 0

        async def handle(question: dict[str, Any]) -> int | None:
            nonlocal newest, value
            if fixed and question["token"] < newest:
                return None
            newest = max(newest, question["token"])
            if question["do"] == "put":
                value = question["value"]
            return value

        await serve(handle)

    async def worker() -> None:
        nonlocal written, done
        for _ in range(4):
            while not (token := await ask("locks", do="acquire")):
                await asyncio.sleep(0.02)
            seen = await ask("store", do="get", token=token)
            if seen is not None:
                put = await ask("store", do="put", token=token, value=seen + 1)
                written += put is not None
            await ask("locks", do="release", token=token)
        done += 1

    world.host("locks", locks)
    world.host("store", store)
    await world.sleep(0.1)
    for name in ("w0", "w1"):
        world.host(name, worker)
        world.link(name, "store", latency=(0.005, 0.15))
    await world.eventually("the workers are done", lambda: done == 2, within=120)
    assert value == written, f"{written} writes were accepted, but the value is {value}"
