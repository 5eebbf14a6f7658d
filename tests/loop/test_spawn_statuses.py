"""The status of a child is never lost, and never another's, however soon it ends."""

import asyncio
import errno
import gc
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.support.descriptors import open_files

import aiopoll
from aiopoll.loop.subprocess import SubprocessTransport

SECONDS_MAX = 30  # more is a hang
KEEPS_STATUS = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)


def kept(status: int) -> int:
    """The status of a child that other code has reaped: pidfds keep it from 6.15 on."""
    return status if KEEPS_STATUS else 255


def gone(pid: int) -> None:
    """Returns when a child whose parent ignores SIGCHLD has been reaped by the kernel."""
    while Path(f"/proc/{pid}").exists():
        os.sched_yield()


def reaped_elsewhere(pid: int) -> None:
    thread = threading.Thread(target=os.waitpid, args=(pid, 0))
    thread.start()
    thread.join()


ENDINGS = {"exit 7": 7, "exit 0": 0, "exit 255": 255, "kill -9 $$": -9, "kill -TERM $$": -15}


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "descriptors not closed": {"close_fds": False},
    "ids": {"user": os.getuid()},
    "preexec_fn": {"preexec_fn": lambda: None},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reaper", ["kernel", "thread"])
def test_status_is_not_lost_if_child_ends_before_the_watch(
    loop: aiopoll.EventLoop, monkeypatch: pytest.MonkeyPatch, reaper: str, way: str
) -> None:
    if (reaper, way) == ("thread", "preexec_fn") and os.environ.get("AIOPOLL_SANITIZED") == "1":
        pytest.skip(reason="skips.toml: a fork beside a thread under AddressSanitizer")
    watch = SubprocessTransport._watch
    watched: list[int] = []

    def watch_late(self: SubprocessTransport, pid: int) -> None:
        (gone if reaper == "kernel" else reaped_elsewhere)(pid)
        watched.append(pid)
        watch(self, pid)

    monkeypatch.setattr(SubprocessTransport, "_watch", watch_late)

    async def status(command: str) -> int:
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", command, **WAYS[way])
        return await asyncio.wait_for(process.wait(), SECONDS_MAX)

    previous = signal.signal(
        signal.SIGCHLD, signal.SIG_IGN if reaper == "kernel" else signal.SIG_DFL
    )
    try:
        found = {command: loop.run_until_complete(status(command)) for command in ENDINGS}
    finally:
        signal.signal(signal.SIGCHLD, previous)
    assert found == {command: kept(ending) for command, ending in ENDINGS.items()}
    assert len(watched) == len(ENDINGS)


def test_a_status_is_not_lost_where_the_loop_cannot_watch(
    loop: aiopoll.EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread waits then; the child is gone before it does."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    by_thread = SubprocessTransport._watch_by_thread

    def watch_late(self: SubprocessTransport, pid: int) -> None:
        os.waitpid(pid, 0)
        by_thread(self, pid)

    async def status() -> int:
        with monkeypatch.context() as patch:
            patch.setattr(SubprocessTransport, "_watch_by_thread", watch_late)
            patch.setattr(loop, "_add_reader", refuse, raising=False)
            process = await asyncio.create_subprocess_exec("sh", "-c", "exit 7")
        return await asyncio.wait_for(process.wait(), SECONDS_MAX)

    before = open_files()
    assert loop.run_until_complete(status()) == kept(7)
    gc.collect()
    assert open_files() == before


def test_no_later_process_of_the_number_is_reaped(loop: aiopoll.EventLoop) -> None:
    with subprocess.Popen(["sh", "-c", "exit 5"]) as other:
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)

        async def status() -> int:
            reader, writer = os.pipe()
            process = await asyncio.create_subprocess_shell("read line; exit 7", stdin=reader)
            os.close(reader)
            popen: Any = process._transport.get_extra_info("subprocess")  # type: ignore[attr-defined]
            os.close(writer)
            os.waitpid(popen.pid, 0)
            popen.pid = other.pid  # as if it had got the number
            return await asyncio.wait_for(process.wait(), SECONDS_MAX)

        assert loop.run_until_complete(status()) == kept(7)
    assert other.returncode == 5
