"""What every test folder shares: both ways of reaping, and the machine's slots as a check."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiopoll import Context


def read_aio_nr() -> int:
    """The slots taken on the whole machine: fs.aio-nr."""
    return int(Path("/proc/sys/fs/aio-nr").read_text(encoding="ascii"))


@pytest.fixture(params=[True, False], ids=["ring-reap", "syscall-reap"])
def user_ring(request: pytest.FixtureRequest) -> bool:
    """Whether events are reaped from the mapped ring; tests that use it run both ways."""
    return bool(request.param)


@pytest.fixture
def context(user_ring: bool) -> Iterator[Context]:
    with Context(64, user_ring=user_ring) as context:
        yield context
