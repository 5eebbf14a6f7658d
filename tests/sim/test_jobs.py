"""Seeds in several processes: the first that fails, whatever process finds it when."""

import os
import signal
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopoll.sim.jobs import JobDied, Progress, first_failing

pytestmark = pytest.mark.subprocess


@pytest.mark.parametrize("jobs", [1, 2, 5, 50])
@settings(max_examples=20)
@given(failing=st.sets(st.integers(0, 30)))
def test_the_first_failing_seed_is_found(jobs: int, failing: set[int]):
    found = first_failing(failing.__contains__, range(20), jobs=jobs)
    assert found == min((seed for seed in failing if seed < 20), default=None)


def test_a_slow_process_with_an_earlier_seed_is_waited_for():
    def fails(seed: int) -> bool:
        if seed == 0:
            time.sleep(0.3)
        return seed in (0, 1)

    assert first_failing(fails, range(100), jobs=2) == 0


def test_later_seeds_are_not_waited_for():
    def fails(seed: int) -> bool:
        if seed == 3:
            signal.pause()
        return seed == 0

    assert first_failing(fails, range(100), jobs=2) == 0


def test_progress_counts_every_seed():
    seen: list[int] = []

    def report(progress: Progress) -> None:
        seen.append(progress.done)
        assert progress.total == 40

    assert first_failing(lambda seed: False, range(40), jobs=3, report=report) is None
    assert seen[-1] == 40
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("death", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "by signal 9"),
        (lambda: os._exit(3), "with status 3"),
    ],
)
def test_a_process_that_dies_is_no_pass(death, words: str):
    def fails(seed: int) -> bool:
        if seed == 6:
            death()
        return False

    with pytest.raises(JobDied, match=f"which ran seed 6, ended {words}"):
        first_failing(fails, range(40), jobs=2)


def test_no_process_is_left():
    def fails(seed: int) -> bool:
        if seed % 4 == 3:
            signal.pause()
        return seed == 5

    before = os.listdir("/proc/self/fd")
    with pytest.raises(ZeroDivisionError):
        first_failing(fails, range(40), jobs=4, report=lambda progress: 1 // 0)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, 0)
    assert len(os.listdir("/proc/self/fd")) == len(before)
