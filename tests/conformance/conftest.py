"""What the conformance tests share.

They follow, in words of their own, the cases of libaio's harness (harness/cases in libaio's
sources) and of the Linux Test Project (testcases/kernel/syscalls/io_*), one file each.  Every
test runs twice: with ring reap, and with system-call reap forced.
"""

import os
import select
import signal
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiopoll.libaio import (
    io_context_t,
    io_destroy,
    io_event,
    io_getevents,
    io_queue_init,
    io_submit,
    iocb,
    timespec,
)

LIMIT_S = 60
KNOWN_GAPS = Path(__file__).parents[2] / "known_gaps.toml"


def mapped_rings() -> int:
    """The contexts of this process: the kernel maps a ring named [aio] for each."""
    return Path("/proc/self/maps").read_text(encoding="utf-8").count("[aio]")


@pytest.fixture(autouse=True)
def _reap_as_told(user_ring: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has io_setup and Context reap in the way under test; checks that no context is left.

    The rings are counted and not fs.aio-nr, which other programs change meanwhile.
    """
    monkeypatch.setenv("AIOPOLL_USER_RING", "1" if user_ring else "0")
    before = mapped_rings()
    yield
    assert mapped_rings() == before


@pytest.fixture
def ctx(_reap_as_told: None) -> Iterator[io_context_t]:
    ctx = io_context_t()
    assert io_queue_init(64, ctx) == 0
    yield ctx
    if not ctx.context.closed:
        assert io_destroy(ctx) == 0


@pytest.fixture(scope="session")
def sync_submit() -> Callable[[io_context_t, iocb], int]:
    """Submits one request and answers its result, or the error of the submission."""

    def sync_submit(ctx: io_context_t, cb: iocb) -> int:
        result = io_submit(ctx, 1, [cb])
        if result != 1:
            return result
        event = io_event()
        assert io_getevents(ctx, 1, 1, [event], timespec(LIMIT_S)) == 1
        assert event.obj is cb
        return event.res

    return sync_submit


@pytest.fixture(scope="session")
def attempt(sync_submit: Callable[..., int]) -> Callable[..., int]:
    """attempt(ctx, io_prep_…, fd, buf, count, offset) -> result."""

    def attempt(ctx: io_context_t, prep: Callable[..., None], *arguments: Any) -> int:
        cb = iocb()
        prep(cb, *arguments)
        return sync_submit(ctx, cb)

    return attempt


@pytest.fixture(scope="session")
def gap() -> Callable[[str], str]:
    """gap(name) -> the reason that known_gaps.toml gives; without an entry the test fails."""
    entries = tomllib.loads(KNOWN_GAPS.read_text(encoding="utf-8")).get("gap", [])
    reasons = {e["name"]: e["reason"] for e in entries if e["where"] == "conformance"}
    return reasons.__getitem__


@pytest.fixture(scope="session")
def in_child() -> Callable[[Callable[[], object]], None]:
    """Runs a function in a forked child; fails with its traceback, or when it takes too long."""

    def in_child(body: Callable[[], object]) -> None:
        report_read, report_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(report_read)
                body()
                status = 0
            except BaseException:
                os.write(report_write, traceback.format_exc().encode())
            finally:
                os._exit(status)
        os.close(report_write)
        report = b""
        deadline = time.monotonic() + LIMIT_S
        poller = select.poll()
        poller.register(report_read, select.POLLIN)
        try:
            while poller.poll(max(0, deadline - time.monotonic()) * 1000):
                chunk = os.read(report_read, 65536)
                if not chunk:
                    break
                report += chunk
            else:
                os.kill(pid, signal.SIGKILL)
                report += b"the child did not end in time"
        finally:
            os.close(report_read)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == 0, report.decode()

    return in_child


@pytest.fixture
def rw_fd(tmp_path: Path) -> Iterator[int]:
    """A new, empty file, open for reading and writing."""
    fd = os.open(tmp_path / "rwfile", os.O_RDWR | os.O_CREAT, 0o600)
    yield fd
    os.close(fd)
