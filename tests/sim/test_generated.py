"""Generated programs: run equals run equals replay, by the full trace."""

from collections.abc import Callable

import pytest

from aiopoll.sim.run import Outcome, run_once
from aiopoll.sim.tape import replay_of, tape_of

from .generated import program_of


def summary(outcome: Outcome) -> tuple[object, ...]:
    assert outcome.error is None, f"seed {outcome.seed}: {outcome.error!r}"
    return outcome.digest, outcome.steps, outcome.elapsed_ns, outcome.result, outcome.deviations


def check(numbers: range) -> int:
    logged = 0
    for number in numbers:
        program = program_of(number)
        first = run_once(program, tape_of(number), digest=True)
        again = run_once(program, tape_of(number), digest=True)
        assert summary(again) == summary(first), number
        replayed = run_once(program, replay_of(first.deviations, seed=number), digest=True)
        assert summary(replayed) == summary(first), number
        logged += len(first.result)
    return logged


def test_run_equals_run_equals_replay() -> None:
    assert check(range(40)) > 1000


@pytest.mark.soak
@pytest.mark.parametrize("part", range(4))
def test_many_generated_programs_repeat(part: int, soak: Callable[[int], int]) -> None:
    """AIOPOLL_SOAK=10 tries a thousand programs."""
    count = soak(25)
    assert check(range(40 + part * count, 40 + part * count + count)) > 10 * count
