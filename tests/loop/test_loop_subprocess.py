"""Subprocesses: exit statuses whichever code reaps, plain pipes, no watchers, no leaks."""

import asyncio
import gc
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.descriptors import open_files

import aiopoll
from aiopoll.loop import subprocess as subprocess_module
from aiopoll.loop.subprocess import SubprocessTransport

pytestmark = pytest.mark.subprocess

PIPE = subprocess.PIPE


@pytest.fixture(params=["aio", "one-slot", "epoll", "no pidfd"])
def loop_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param != "no pidfd":
        return request.param
    fork_exec: Any = vars(subprocess)["_fork_exec"]
    monkeypatch.setattr(os, "pidfd_open", refused)
    # A function that a program has put there is called, and knows no pidfd.
    monkeypatch.setattr(subprocess, "_fork_exec", lambda *arguments: fork_exec(*arguments))
    return "aio"


@pytest.fixture(scope="module", autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = open_files()
    yield
    gc.collect()
    assert open_files() == before


def refused(pid: int, flags: int = 0) -> int:
    raise PermissionError(1, "Operation not permitted")


async def exits_with_7_when_let() -> tuple[asyncio.subprocess.Process, int]:
    """A child, and the descriptor whose close ends it."""
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_shell("read line; exit 7", stdin=reader)
    os.close(reader)
    return process, writer


async def shell(command: str, **options: Any) -> tuple[int, bytes]:
    """Runs it; returns the status and its output."""
    process = await asyncio.create_subprocess_shell(command, stdout=PIPE, **options)
    out, _ = await process.communicate(None if process.stdin is None else b"")
    assert process.returncode is not None
    return process.returncode, out


def test_status_and_pipes(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", "cat; echo err >&2; exit 3", stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        data = bytes(range(256)) * 4096
        assert await process.communicate(data) == (data, b"err\n")
        assert process.returncode == 3
        assert await shell("kill -9 $$") == (-9, b"")

    loop.run_until_complete(scenario())


def test_the_pipes_are_pipes_that_the_child_can_open_again(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_shell(
            "cat /dev/stdin > /proc/self/fd/1", stdin=PIPE, stdout=PIPE
        )
        assert await process.communicate(b"through") == (b"through", None)
        transport, _ = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, "cat", stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        for number in range(3):
            pipe: Any = transport.get_pipe_transport(number)
            mode = os.fstat(pipe.get_extra_info("pipe").fileno()).st_mode
            assert stat.S_ISFIFO(mode)
        transport.close()
        await transport._wait()

    loop.run_until_complete(scenario())


def test_many_at_once(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        answers = await asyncio.gather(*(shell(f"echo {n}; exit {n}") for n in range(20)))
        assert answers == [(n, f"{n}\n".encode()) for n in range(20)]

    loop.run_until_complete(scenario())


def test_in_another_thread(loop: aiopoll.EventLoop) -> None:
    answers: list[tuple[int, bytes]] = []
    thread = threading.Thread(
        target=lambda: answers.append(loop.run_until_complete(shell("echo x; exit 5")))
    )
    thread.start()
    thread.join()
    assert answers == [(5, b"x\n")]


def test_options_of_popen(loop: aiopoll.EventLoop, tmp_path: Any) -> None:
    async def scenario() -> None:
        answer = await shell(
            'echo "$PWD $NAME"; readlink /proc/self/fd/0',
            cwd=tmp_path,
            env={**os.environ, "NAME": "name"},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: os.umask(0),
        )
        assert answer == (0, f"{tmp_path} name\n/dev/null\n".encode())
        reader, writer = os.pipe()
        status, _ = await shell(f"echo x > /dev/fd/{writer}", pass_fds=[writer])
        assert status == 0
        os.close(writer)
        assert os.read(reader, 10) == b"x\n"
        os.close(reader)
        status, out = await shell("echo x >&2", stderr=subprocess.STDOUT)
        assert (status, out) == (0, b"x\n")
        for wrong in ({"universal_newlines": True}, {"text": True}, {"encoding": "utf-8"}):
            with pytest.raises(ValueError, match="must be"):
                await shell("true", **wrong)

    loop.run_until_complete(scenario())


def test_refusal_by_popen_leaves_nothing(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec("no-such-program", stdin=PIPE, stdout=PIPE)
            with pytest.raises(PermissionError):
                await asyncio.create_subprocess_exec("/", stdin=PIPE, stdout=PIPE, stderr=PIPE)
            with pytest.raises(FileNotFoundError):
                await shell("true", cwd="no such directory")
            with pytest.raises(ValueError, match="null byte"):
                await asyncio.create_subprocess_exec("a\0b", stdin=PIPE)

    loop.run_until_complete(scenario())


def test_signals(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        for send, number in (("terminate", 15), ("kill", 9), ("send_signal", 10)):
            process = await asyncio.create_subprocess_exec("sleep", "60")
            getattr(process, send)(*([signal.SIGUSR1] if send == "send_signal" else []))
            assert await process.wait() == -number
            with pytest.raises(ProcessLookupError):
                process.send_signal(signal.SIGTERM)

    loop.run_until_complete(scenario())


def test_dead_child_that_is_not_reaped_can_be_signalled(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        process, end = await exits_with_7_when_let()
        os.close(end)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        process.terminate()
        assert await process.wait() == 7

    loop.run_until_complete(scenario())


def test_child_that_other_code_reaped_can_be_signalled(loop: aiopoll.EventLoop) -> None:
    """The process no longer exists, and the loop does not know it yet."""

    async def scenario() -> None:
        process, end = await exits_with_7_when_let()
        os.close(end)
        os.waitpid(process.pid, 0)
        process.terminate()
        process.send_signal(signal.SIGUSR1)
        process.kill()
        await process.wait()

    loop.run_until_complete(scenario())


def test_a_status_that_the_popen_has_taken_is_kept(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_shell("exit 7")
        popen: Any = process._transport.get_extra_info("subprocess")  # type: ignore[attr-defined]
        popen.wait()
        assert await process.wait() == 7

    loop.run_until_complete(scenario())


KEEPS_STATUS = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)


def test_a_status_that_was_stolen_is_asked_of_the_pidfd(
    loop: aiopoll.EventLoop, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> int:
        process, end = await exits_with_7_when_let()
        os.close(end)
        os.waitpid(process.pid, 0)
        return await process.wait()

    kept = KEEPS_STATUS and "no pidfd" not in request.node.name
    assert loop.run_until_complete(scenario()) == (7 if kept else 255)
    assert ("exit status already read" in caplog.text) == (not kept)


@pytest.mark.parametrize("loop_kind", ["aio", "epoll"])
def test_status_that_is_not_filled_in_is_asked_for_again(
    loop: aiopoll.EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def ioctl(fd: int, request: int, data: bytes) -> bytes:
        asked.append(fd)
        ready = len(asked) == 4
        mask = subprocess_module._PIDFD_INFO_EXIT if ready else 0
        return subprocess_module._PIDFD_INFO.pack(mask, *[0] * 12, 7 << 8 if ready else 0)

    monkeypatch.setattr(subprocess_module.fcntl, "ioctl", ioctl)

    async def scenario() -> int:
        process, end = await exits_with_7_when_let()
        os.close(end)
        os.waitpid(process.pid, 0)
        return await process.wait()

    assert loop.run_until_complete(asyncio.wait_for(scenario(), 30)) == 7
    assert len(asked) == 4


def test_without_the_kernels_help_a_stolen_status_is_255(
    loop: aiopoll.EventLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("aiopoll.loop.subprocess._PIDFD_GET_INFO", 0)

    async def scenario() -> int:
        process, end = await exits_with_7_when_let()
        os.close(end)
        os.waitpid(process.pid, 0)
        return await process.wait()

    assert loop.run_until_complete(scenario()) == 255
    assert "will report returncode 255" in caplog.text


def test_an_ignored_sigchld_does_not_hang(
    loop: aiopoll.EventLoop, request: pytest.FixtureRequest
) -> None:
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        status, out = loop.run_until_complete(shell("echo x; read wait; exit 7", stdin=PIPE))
        assert out == b"x\n"
        kept = KEEPS_STATUS and "no pidfd" not in request.node.name
        assert status == (7 if kept else 255)
        # A child that ends before it can be watched: test_spawn_statuses.py forces that.
        assert loop.run_until_complete(shell("exit 0"))[0] in (0, 255)
    finally:
        signal.signal(signal.SIGCHLD, previous)


def test_a_cancelled_start_kills_the_child(loop: aiopoll.EventLoop) -> None:
    started: list[Any] = []

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    async def scenario() -> None:
        for turns in range(5):
            task = asyncio.ensure_future(
                asyncio.create_subprocess_exec("sleep", "60", stdin=PIPE, stdout=PIPE)
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                process = await task
            except asyncio.CancelledError:
                continue
            process.kill()
            await process.wait()
        while any(popen.returncode is None for popen in started):
            await asyncio.sleep(0.001)
        assert all(popen.returncode == -9 for popen in started)
        await asyncio.sleep(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Popen)
        loop.run_until_complete(scenario())
    assert started


@pytest.mark.parametrize("backend", ["aio", "epoll"])
def test_a_loop_closed_over_a_running_child(backend: str) -> None:
    before = open_files()
    loop = aiopoll.new_event_loop(backend=backend)
    transport, _ = loop.run_until_complete(
        loop.subprocess_exec(
            asyncio.SubprocessProtocol, "sleep", "60", stdin=None, stdout=None, stderr=None
        )
    )
    assert isinstance(transport, SubprocessTransport)
    popen = transport.get_extra_info("subprocess")
    loop.close()
    holder = [transport]
    del transport
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        holder.clear()
    assert popen.wait() == -9
    assert open_files() == before


def test_no_watcher_is_asked() -> None:
    program = """
import asyncio, aiopoll, signal, sys
from asyncio import events

def refuse(*args):
    raise AssertionError("a child watcher was asked for")

events.get_child_watcher = asyncio.get_child_watcher = refuse

async def main():
    process = await asyncio.create_subprocess_exec("true")
    return await process.wait()

assert aiopoll.run(main()) == 0
assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
