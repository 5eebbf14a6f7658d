"""Shrinking: few deviations left, the same failure, few runs."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopoll.sim.failure import failure_of
from aiopoll.sim.shrink import Shrinker, kind_of, shrink, size_of
from aiopoll.sim.tape import Deviation, Tape, replay_of, tape_of


@dataclass
class Outcome:
    tape: Tape
    error: BaseException | None
    digest: int = 0


Program = Callable[[Tape], None]


def run_of(program: Program) -> Callable[[Tape], Outcome]:
    def run(tape: Tape) -> Outcome:
        try:
            program(tape)
        except Exception as error:
            return Outcome(tape, error)
        return Outcome(tape, None)

    return run


def first_failure(program: Program) -> Outcome:
    run = run_of(program)
    for seed in range(2000):
        outcome = run(tape_of(seed, "uniform"))
        if outcome.error is not None:
            return outcome
    raise AssertionError("no seed fails")


def noisy(tape: Tape) -> None:
    """4000 draws, of which a late packet and an early step matter."""
    late = stepped = False
    for number in range(1000):
        for link in ("n0>n1", "n1>n2", "n2>n0"):
            delay = tape.between(f"{link} delay", 100_000, 10_000_000)
            if link == "n2>n0" and number == 700 and delay > 5_000_000:
                late = True
        if tape.choose("n1 step", 4) == 2 and number == 300:
            stepped = True
    assert not (late and stepped)


def test_two_of_thousands_are_left():
    outcome = first_failure(noisy)
    assert len(outcome.tape.deviations) > 3000
    shrinker = Shrinker(run_of(noisy), outcome)
    found = shrinker.shrink()
    assert [(entry.label, entry.ordinal) for entry in found.tape.deviations] == [
        ("n1 step", 300),
        ("n2>n0 delay", 700),
    ]
    assert shrinker.runs < 200
    assert shrinker.is_deterministic


def test_values_are_lowered_to_about_the_smallest():
    found = shrink(run_of(noisy), first_failure(noisy))
    step, delay = found.tape.deviations
    assert step.value == 2
    assert 4_900_000 < delay.value <= 5_600_000


def test_families_that_do_not_matter_go_at_once():
    """Most of the draws of one label are needed, among those of forty others."""

    def program(tape: Tape) -> None:
        count = 0
        for _ in range(60):
            for link in range(40):
                tape.choose(f"n{link}>n0 delay", 1000)
            count += bool(tape.choose("hosts", 3))
        assert count < 20

    outcome = first_failure(program)
    assert len(outcome.tape.deviations) > 2000
    shrinker = Shrinker(run_of(program), outcome, runs_max=150)
    assert len(shrinker.shrink().tape.deviations) == 20


def test_a_failure_of_the_plain_order_needs_two_runs():
    def program(tape: Tape) -> None:
        for _ in range(100):
            tape.choose("n1 step", 3)
        raise ValueError

    shrinker = Shrinker(run_of(program), run_of(program)(tape_of(1, "uniform")))
    assert shrinker.shrink().tape.deviations == []
    assert shrinker.runs == 2


def shifting(tape: Tape) -> None:
    """Each deviation of a step adds a draw, so removing one moves what follows."""
    left, score = 200, 0
    while left:
        left -= 1
        if tape.choose("n0 step", 3) == 1 and tape.chance("n0>n1 lost", 0.3):
            score += 1
    assert score < 5


def test_draws_that_move_are_shrunk_to_ten():
    found = shrink(run_of(shifting), first_failure(shifting))
    assert found.error is not None
    assert len(found.tape.deviations) == 10


def test_another_failure_on_the_way_is_not_taken():
    def program(tape: Tape) -> None:
        values = [tape.choose("n0 step", 5) for _ in range(60)]
        if sum(map(bool, values)) > 30:
            raise AssertionError("many")
        if any(values):
            raise AssertionError("another line")

    outcome = first_failure(program)
    found = shrink(run_of(program), outcome)
    assert str(found.error) == "many"
    assert len(found.tape.deviations) == 31


def test_another_type_at_the_same_line_is_not_taken():
    def program(tape: Tape) -> None:
        count = sum(tape.choose("n0 step", 2) for _ in range(60))
        if count:
            raise (KeyError if count > 20 else IndexError)

    outcome = first_failure(program)
    assert isinstance(outcome.error, KeyError)
    assert len(shrink(run_of(program), outcome).tape.deviations) == 21


def test_runs_stay_within_the_limit():
    def program(tape: Tape) -> None:
        assert sum(bool(tape.choose("n0 step", 9)) for _ in range(500)) < 100

    shrinker = Shrinker(run_of(program), first_failure(program), runs_max=50)
    found = shrinker.shrink()
    assert found.error is not None
    assert shrinker.runs <= 51


def test_a_run_that_differs_at_its_second_time_is_dropped():
    runs: list[int] = []

    def run(tape: Tape) -> Outcome:
        outcome = run_of(noisy)(tape)
        runs.append(0)
        # Short tapes have another digest at each run.
        outcome.digest = len(runs) if len(tape.deviations) < 100 else 7
        return outcome

    outcome = first_failure(noisy)
    outcome.digest = 7
    shrinker = Shrinker(run, outcome)
    found = shrinker.shrink()
    assert not shrinker.is_deterministic
    assert found is outcome


def test_a_passing_run_is_refused():
    with pytest.raises(ValueError, match="did not fail"):
        shrink(run_of(lambda tape: None), Outcome(tape_of(0), None))


def test_the_program_keeps_its_seed():
    seeds = set()

    def program(tape: Tape) -> None:
        seeds.add(tape.seed)
        assert not tape.choose("n0 step", 3)

    shrink(run_of(program), first_failure(program))
    assert len(seeds) <= 2  # the search's and the failing one


@pytest.mark.parametrize(
    ("label", "kind"),
    [("n2>n0 delay", "delay"), ("hosts", "hosts"), ("n1 fsync error", "fsync error")],
)
def test_kinds_leave_the_host_out(label: str, kind: str):
    assert kind_of(label) == kind


LABELS = st.sampled_from(["n0>n1 delay", "n1>n0 delay", "n0 step", "n1 step", "hosts"])


@given(
    needed=st.dictionaries(
        st.tuples(LABELS, st.integers(0, 99)), st.integers(1, 1000), min_size=1, max_size=4
    ),
    noise=st.dictionaries(st.tuples(LABELS, st.integers(0, 99)), st.integers(1, 1000)),
)
def test_what_is_needed_is_what_is_left(needed, noise):
    def program(tape: Tape) -> None:
        values = {}
        for number in range(100):
            for label in ("n0>n1 delay", "n1>n0 delay", "n0 step", "n1 step", "hosts"):
                values[label, number] = tape.choose(label, 1001)
        assert not all(values[key] >= least for key, least in needed.items())

    start = [
        Deviation(label, ordinal, value) for (label, ordinal), value in {**noise, **needed}.items()
    ]
    run = run_of(program)
    outcome = run(replay_of(start, seed=0))
    found = shrink(run, outcome)
    assert {entry.key for entry in found.tape.deviations} == set(needed)
    assert size_of(found.tape.deviations) <= size_of(start)
    for entry in found.tape.deviations:
        assert needed[entry.key] <= entry.value <= needed[entry.key] * 1.25 + 1
    assert failure_of(found.error) == failure_of(outcome.error)
