"""`sim.test`: what it makes of a program, and what a failing seed raises."""

import asyncio
import inspect

import pytest

from aiopoll import sim
from aiopoll.sim.tape import tape_of
from aiopoll.sim.tapefile import TapeFile, save


@pytest.fixture
def planted() -> int:
    return 3


@sim.test(seeds=5)
async def test_pytest_collects_a_program(world: sim.World) -> None:
    await world.sleep(1)
    assert world.now() == 1.0


@sim.test(seeds=5)
async def test_a_program_gets_its_fixtures(world: sim.World, planted: int) -> None:
    assert planted == 3


@sim.test
async def test_the_decorator_needs_no_options(world: sim.World) -> None:
    await world.sleep(0)


@sim.test(seeds=60)
async def race(world: sim.World) -> None:
    """Two tasks read a number and write it back: one of the two is lost in some orders."""
    value = 0

    async def increment() -> None:
        nonlocal value
        await asyncio.sleep(1)
        read = value
        await asyncio.sleep(0)
        value = read + 1

    await asyncio.gather(increment(), increment())
    assert value == 2, "an increment was lost"


def test_the_first_failing_seed_is_raised_with_its_number() -> None:
    with pytest.raises(AssertionError, match="an increment was lost") as caught:
        race()
    assert [note for note in caught.value.__notes__ if note.startswith("seed ")]


def test_a_seed_of_the_command_line_is_the_only_one(monkeypatch) -> None:
    seen: list[int] = []

    @sim.test(seeds=50)
    async def program(world: sim.World) -> None:
        seen.append(world.seed)

    monkeypatch.setattr("aiopoll.sim.testing.settings.seed", 17)
    program()
    assert seen == [17]


def test_a_kept_tape_is_run_before_the_seeds(tmp_path) -> None:
    failing = next(
        outcome
        for outcome in (race.sim_test.run(tape_of(seed), {}) for seed in range(60))
        if outcome.failed
    )
    deviations = failing.deviations
    kept = save(tmp_path / "kept.json", TapeFile("race", 7, "uniform", deviations, python="3.1"))
    seen: list[int] = []

    @sim.test(seeds=3, tapes=[kept])
    async def program(world: sim.World) -> None:
        seen.append(world.seed)
        await race.program(world)

    with pytest.raises(AssertionError, match="an increment was lost"):
        program()
    assert seen == [7]


def test_a_path_alone_is_no_sequence_of_tapes() -> None:
    with pytest.raises(TypeError, match=r"\['kept.json'\]"):
        sim.test(tapes="kept.json")


def test_it_is_a_plain_function_for_runners() -> None:
    assert not inspect.iscoroutinefunction(race)
    assert [*inspect.signature(race).parameters] == []
    assert race.__name__ == "race"
    assert race.options.seeds == 60


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: sim.test(seeds=0), "at least one seed"),
        (lambda: sim.test(schedule="random"), "uniform, pct, mixed"),
        (lambda: sim.chaos(crashes=2), "from 0 to 1"),
    ],
)
def test_bad_options_are_refused(wrong, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def test_what_is_no_program_is_refused() -> None:
    with pytest.raises(TypeError, match="async def"):
        sim.test(lambda world: None)

    async def without_world() -> None: ...

    with pytest.raises(TypeError, match="takes no world"):
        sim.test(without_world)
