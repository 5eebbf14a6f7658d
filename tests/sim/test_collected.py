"""The collector of cycles takes no task that still waits: not a host's main, not a dead host's."""

import asyncio
import gc
from typing import Any

from aiopoll.sim.run import run_once
from aiopoll.sim.tape import tape_of
from aiopoll.sim.world import World


async def waits_for_ever(ended: list[str], name: str) -> None:
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        ended.append(name)


def run(program: Any) -> None:
    outcome = run_once(program, tape_of(0))
    if outcome.error is not None:
        raise outcome.error


def test_main_of_a_host_is_held() -> None:
    ended: list[str] = []

    async def program(world: World) -> None:
        world.host("a", waits_for_ever, ended, "main")
        await world.sleep(1)
        gc.collect()
        await world.sleep(1)
        assert not ended

    run(program)
    assert ended == ["main"]


def test_killed_tasks_end_when_the_world_is_over() -> None:
    ended: list[str] = []

    async def parent() -> None:
        await asyncio.wait([asyncio.create_task(waits_for_ever(ended, name)) for name in "xy"])

    async def program(world: World) -> None:
        host = world.host("a", parent)
        await world.sleep(1)
        host.kill()
        gc.collect()
        host.restart()
        await world.sleep(1)
        gc.collect()
        assert not ended

    run(program)
    assert sorted(ended) == ["x", "x", "y", "y"]
