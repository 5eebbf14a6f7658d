"""Run equals run: the first difference, with the stacks of both sides."""

import asyncio
import itertools

import pytest

from aiopoll.sim.determinism import Difference, first_difference
from aiopoll.sim.run import run_once
from aiopoll.sim.tape import Plain, Tape


def difference_of(program, **options) -> Difference | None:
    return first_difference(
        lambda tape, trace: run_once(program, tape, trace=trace), lambda: Tape(Plain()), **options
    )


async def two_sleeps(first: float) -> None:
    await asyncio.gather(asyncio.sleep(first), asyncio.sleep(0.5))
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))


def test_equal_runs_have_no_difference():
    async def program(world):
        await two_sleeps(0.5)

    assert difference_of(program, times=4) is None


def test_a_difference_names_the_lines_of_both_sides():
    runs = itertools.count()

    async def program(world):
        await two_sleeps(0.5 if next(runs) % 2 else 0.4)

    found = difference_of(program)
    assert found is not None
    assert found.is_repeated
    assert found.first.line.startswith("400000000 ")
    assert found.second.line.startswith("500000000 ")
    assert str(found).startswith(f"Two runs of one tape differ from line {found.index + 1}")


def test_a_difference_has_the_stacks_of_the_program():
    runs = itertools.count()

    def early():
        asyncio.get_running_loop().create_task(asyncio.sleep(0))

    def late():
        asyncio.get_running_loop().call_soon(int)

    async def program(world):
        (early if next(runs) % 2 else late)()
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

    found = difference_of(program)
    assert found is not None
    assert found.first.line != found.second.line


def test_the_third_run_may_be_different_again():
    runs = itertools.count(1)

    async def program(world):
        await two_sleeps(next(runs) / 100)

    found = difference_of(program)
    assert found is not None
    assert not found.is_repeated
    assert "A third run was different again." in str(found)


@pytest.mark.parametrize("longer", [0, 1])
def test_a_run_that_ends_early_differs_at_its_end(longer: int):
    runs = itertools.count()

    async def program(world):
        await two_sleeps(0.5)
        if next(runs) % 2 == longer:
            await two_sleeps(0.5)

    found = difference_of(program)
    assert found is not None
    lines = [found.first.line, found.second.line]
    assert lines[1 - longer] == "nothing more"
    assert lines[longer] != "nothing more"


def test_a_difference_in_a_later_run_is_found():
    runs = itertools.count(1)

    async def program(world):
        await two_sleeps(0.4 if next(runs) % 4 == 0 else 0.5)

    assert difference_of(program, times=3) is None
    runs = itertools.count(1)
    assert difference_of(program, times=4) is not None
