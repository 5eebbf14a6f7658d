"""Each toy's bug is found by few seeds and made plain; its twin raises no alarm."""

import functools
from collections.abc import Callable

import pytest

from aiopoll.sim.failure import failure_of
from aiopoll.sim.run import Outcome, run_once
from aiopoll.sim.shrink import shrink
from aiopoll.sim.tape import Tape, replay_of, tape_of

from .toys import NAMES, load

SEEDS = 200
DEVIATIONS_MAX = 10
TIME_LIMIT = 600.0


def run(name: str, fixed: bool, tape: Tape) -> Outcome:
    return run_once(load(name).of(fixed), tape, time_limit=TIME_LIMIT)


@functools.cache
def first_failure(name: str) -> Outcome:
    for seed in range(SEEDS):
        outcome = run(name, False, tape_of(seed))
        if outcome.error is not None:
            return outcome
    pytest.fail(f"{SEEDS} seeds do not show the bug of {name}")


def same(one: Outcome, other: Outcome) -> bool:
    assert one.error is not None
    assert other.error is not None
    assert failure_of(one.error) == failure_of(other.error)
    assert str(one.error) == str(other.error)
    return (one.steps, one.elapsed_ns) == (other.steps, other.elapsed_ns)


@pytest.mark.parametrize("name", NAMES)
def test_bug_is_found_and_its_failure_is_an_assertion(name: str) -> None:
    # NeverHeld, NotLinearizable and assert; another error would be a mistake of the toy.
    assert isinstance(first_failure(name).error, AssertionError)


@pytest.mark.parametrize("name", NAMES)
def test_failure_repeats_by_seed_and_by_deviations(name: str) -> None:
    outcome = first_failure(name)
    assert same(outcome, run(name, False, tape_of(outcome.seed)))
    assert same(outcome, run(name, False, replay_of(outcome.deviations, seed=outcome.seed)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_failure_shrinks_to_few_deviations(name: str) -> None:
    outcome = first_failure(name)
    small = shrink(lambda tape: run(name, False, tape), outcome)
    assert len(small.deviations) <= DEVIATIONS_MAX, small.deviations


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_twin_raises_no_alarm_in_many_seeds(name: str, soak: Callable[[int], int]) -> None:
    """AIOPOLL_SOAK=100 tries the 2,000 seeds that the toys are held to."""
    for seed in range(soak(20)):
        error = run(name, True, tape_of(seed)).error
        assert error is None, f"seed {seed}: {error!r}"


def test_toys_are_twenty() -> None:
    assert len(NAMES) == len(set(NAMES)) == 20
