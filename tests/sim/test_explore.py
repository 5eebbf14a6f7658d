"""The search through all orders: it finds what there is to find, and proves what there is not."""

import asyncio
import itertools

import pytest

from aiopoll.sim import World
from aiopoll.sim.explore import Prefix, explore, following
from aiopoll.sim.run import run_once
from aiopoll.sim.tape import replay_of


def increments(locked: bool):
    async def program(world: World) -> None:
        value = 0
        lock = asyncio.Lock()

        async def increment() -> None:
            nonlocal value
            read = value
            # A pause between reading and writing, as any await is.
            await asyncio.sleep(0)
            value = read + 1

        async def one() -> None:
            if not locked:
                await increment()
                return
            async with lock:
                await increment()

        await asyncio.gather(one(), one())
        assert value == 2

    return program


def test_a_race_is_found_and_replayed() -> None:
    found = explore(increments(locked=False))
    assert found.failure is not None
    again = run_once(
        increments(locked=False), replay_of(found.failure.deviations, seed=found.failure.seed)
    )
    assert isinstance(again.error, AssertionError)


def test_the_repaired_program_holds_in_every_order() -> None:
    found = explore(increments(locked=True), preemptions=4)
    assert found.failure is None
    assert found.runs > 4


def test_every_order_of_three_tasks_is_tried() -> None:
    orders: set[tuple[int, ...]] = set()

    async def program(world: World) -> None:
        order: list[int] = []

        async def one(number: int) -> None:
            order.append(number)

        await asyncio.gather(*(one(number) for number in range(3)))
        orders.add(tuple(order))

    explore(program, preemptions=3)
    assert orders == set(itertools.permutations(range(3)))


def test_a_search_that_was_cut_short_says_so() -> None:
    with pytest.raises(RuntimeError, match="more than 3 orders"):
        explore(increments(locked=True), limit=3)


@pytest.mark.parametrize(("bound", "runs"), [(0, 1), (1, 7), (2, 19), (3, 27)])
def test_the_bound_counts_the_runs(bound: int, runs: int) -> None:
    """Three choices of three alternatives each: 1 + 3*2 + 3*4 + 8."""
    prefix: list[int] | None = []
    seen = []
    while prefix is not None:
        strategy = Prefix(prefix)
        seen.append(tuple(strategy.pick(("x", n), 3, tuple) for n in range(3)))
        prefix = following(strategy, bound)
    assert len(seen) == len(set(seen)) == runs
