"""What every test folder shares: both ways of reaping, the kinds of loop."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiopoll import Context


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_taken() -> None:
    """A shell's background jobs ignore SIGINT, and so would the tests of KeyboardInterrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=[True, False], ids=["ring-reap", "syscall-reap"])
def user_ring(request: pytest.FixtureRequest) -> bool:
    """Whether events are reaped from the mapped ring; tests that use it run both ways."""
    return bool(request.param)


@pytest.fixture
def context(user_ring: bool) -> Iterator[Context]:
    with Context(64, user_ring=user_ring) as context:
        yield context


LOOPS: dict[str, dict[str, Any]] = {
    "aio": {"backend": "aio"},
    "epoll": {"backend": "epoll"},
    "nr_events=1": {"backend": "aio", "nr_events": 1},  # nearly all files in the epoll set
}


@pytest.fixture(params=LOOPS)
def loop_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What to give to new_event_loop(); tests that use it run on each kind of loop."""
    return LOOPS[request.param]


@pytest.fixture
def soak() -> Callable[[int], int]:
    """How many of something: the environment variable AIOPOLL_SOAK multiplies it (make soak)."""
    factor = int(os.environ.get("AIOPOLL_SOAK", "1"))
    return lambda count: count * factor
