"""Fixtures of the conformance tests.

They follow, in words of their own, the cases of libaio's harness (harness/cases in libaio's
sources) and of the Linux Test Project (testcases/kernel/syscalls/io_*), one file each.  Every test
runs on the Linux underneath and on the in-process kernel, each with ring reap and with forced
system-call reap.
"""

import os
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiopoll.libaio import io_event, iocb, timespec

from .machines import InProcessMachine, LinuxMachine

Machine = LinuxMachine | InProcessMachine
LIMIT_S = 60
SKIPS = Path(__file__).parents[1] / "skips.toml"


@pytest.fixture(params=["linux", "in-process"])
def machine(
    request: pytest.FixtureRequest,
    user_ring: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Machine]:
    """The kernel under the test, which reaps in the way under test and leaves no context."""
    monkeypatch.setenv("AIOPOLL_USER_RING", "1" if user_ring else "0")
    in_process = request.param == "in-process"
    machine = InProcessMachine(user_ring, tmp_path) if in_process else LinuxMachine()
    yield machine
    machine.finish()


@pytest.fixture
def ctx(machine: Machine) -> Iterator[Any]:
    ctx = machine.new_context()
    assert machine.io_queue_init(64, ctx) == 0
    yield ctx
    machine.io_destroy(ctx)  # if the test has not


@pytest.fixture
def sync_submit(machine: Machine) -> Callable[..., int]:
    """Submits one request and returns its result, or the error of the submission."""

    def sync_submit(ctx: Any, cb: iocb) -> int:
        result = machine.io_submit(ctx, 1, [cb])
        if result != 1:
            return result
        event = io_event()
        assert machine.io_getevents(ctx, 1, 1, [event], timespec(LIMIT_S)) == 1
        assert event.obj is cb
        return event.res

    return sync_submit


@pytest.fixture
def attempt(sync_submit: Callable[..., int]) -> Callable[..., int]:
    """attempt(ctx, io_prep_…, fd, buf, count, offset) -> result."""

    def attempt(ctx: Any, prep: Callable[..., None], *arguments: Any) -> int:
        cb = iocb()
        prep(cb, *arguments)
        return sync_submit(ctx, cb)

    return attempt


@pytest.fixture
def skip_reason(machine: Machine) -> Callable[[str], str]:
    """skip_reason(name) -> the reason that skips.toml gives; without an entry the test fails.

    It fails on the in-process kernel too: there every case runs.
    """
    entries = tomllib.loads(SKIPS.read_text(encoding="utf-8"))["skip"]
    reasons = {e["name"]: e["reason"] for e in entries if e["where"] == "conformance"}

    def skip_reason(name: str) -> str:
        assert isinstance(machine, LinuxMachine), "every case runs on the in-process kernel"
        return reasons[name]

    return skip_reason


@pytest.fixture
def rw_fd(machine: Machine, tmp_path: Path) -> Iterator[int]:
    """A new, empty file, open for reading and writing."""
    fd = machine.open(tmp_path / "rwfile", os.O_RDWR | os.O_CREAT)
    yield fd
    machine.close(fd)
