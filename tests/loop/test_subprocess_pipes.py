"""Waiting for a process does not wait for an unread pipe, or one that another process keeps."""

import asyncio
import asyncio.base_subprocess
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable
from typing import Any

import pytest
from tests.support.loops import until

import aiopoll

WAKES_AT_EXIT = "_exit_waiters" in (
    asyncio.base_subprocess.BaseSubprocessTransport._process_exited.__code__.co_names
)

pytestmark = pytest.mark.subprocess

PIPE = subprocess.PIPE
SECONDS_MAX = 30  # more is a hang
MORE_THAN_A_PIPE_HOLDS = 1 << 20

# `read` is a process of its own, which keeps the pipes until descriptor 9 ends: stdin as 8.
KEEPS_ITS_PIPES = "(read wait <&9) & exit 7"


class Kept:
    """A child whose own child keeps its pipes until this is left."""

    def __init__(self, command: str = KEEPS_ITS_PIPES, **pipes: Any) -> None:
        self._command, self._pipes = command, pipes

    async def __aenter__(self) -> asyncio.subprocess.Process:
        reader, self._writer = os.pipe()
        try:
            return await asyncio.create_subprocess_shell(
                f"exec 8<&0 9</dev/fd/{reader}; {self._command}", pass_fds=[reader], **self._pipes
            )
        finally:
            os.close(reader)

    async def __aexit__(self, *_: object) -> None:
        os.close(self._writer)


def run(loop: aiopoll.EventLoop, scenario: Awaitable[Any]) -> Any:
    return loop.run_until_complete(asyncio.wait_for(scenario, SECONDS_MAX))


async def end_of_pipes(process: asyncio.subprocess.Process) -> None:
    """Closes the pipes of a child that ended, and waits until the transport has noticed."""
    transport: Any = process._transport  # type: ignore[attr-defined]
    transport.close()
    for number in range(3):
        pipe = transport.get_pipe_transport(number)
        if number == 0 and pipe is not None:
            pipe.abort()
    await until(lambda: transport._loop is None)


@pytest.mark.parametrize("how", ["kill", "terminate", "close"])
@pytest.mark.parametrize("number", [1, 2])
def test_kill_of_a_child_with_a_full_unread_pipe(
    loop: aiopoll.EventLoop, how: str, number: int
) -> None:
    async def scenario() -> None:
        program = f"import os; os.write({number}, b'x' * {MORE_THAN_A_PIPE_HOLDS})"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, **{["stdout", "stderr"][number - 1]: PIPE}
        )
        transport: Any = process._transport  # type: ignore[attr-defined]
        pipe = transport.get_pipe_transport(number)
        await until(lambda: not pipe.is_reading())
        getattr(transport if how == "close" else process, how)()
        signal_number = signal.SIGTERM if how == "terminate" else signal.SIGKILL
        assert await process.wait() == -signal_number
        await end_of_pipes(process)

    run(loop, scenario())


def test_unread_output_can_be_read_after_the_end(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_shell(
            "head -c 60000 /dev/zero; exit 3", stdout=PIPE, limit=10
        )
        assert await process.wait() == 3
        assert process.stdout is not None
        assert await process.stdout.read() == bytes(60000)

    run(loop, scenario())


@pytest.mark.parametrize(
    "pipes", [["stdin"], ["stdout"], ["stderr"], ["stdin", "stdout", "stderr"]]
)
def test_a_childs_child_keeps_the_pipe(loop: aiopoll.EventLoop, pipes: list[str]) -> None:
    async def scenario() -> None:
        async with Kept(**dict.fromkeys(pipes, PIPE)) as process:
            assert await process.wait() == 7
            assert await process.wait() == 7
            await end_of_pipes(process)

    run(loop, scenario())


def test_stdin_that_was_closed_with_much_unwritten(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        async with Kept("(read wait <&9) & read wait <&9", stdin=PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(bytes(MORE_THAN_A_PIPE_HOLDS))
            process.stdin.close()
            process.kill()
            assert await process.wait() == -9
            await end_of_pipes(process)

    run(loop, scenario())


def test_communicate_with_a_childs_child_on_stdin(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        command = "(read wait <&9) >&- & echo out; exit 7"
        async with Kept(command, stdin=PIPE, stdout=PIPE) as process:
            assert await process.communicate(b"in") == (b"out\n", None)
            assert process.returncode == 7

    run(loop, scenario())


def test_all_output_of_the_child_precedes_the_end_of_wait(loop: aiopoll.EventLoop) -> None:
    """asyncio's order, where no other process has the pipes.

    From Python 3.14 on wait() ends with the process, before the rest.
    """
    told: list[object] = []

    class Telling(asyncio.SubprocessProtocol):
        def pipe_data_received(self, fd: int, data: bytes) -> None:
            told.extend(data)

        def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
            told.append("end of pipe")

        def connection_lost(self, exc: Exception | None) -> None:
            told.append("lost")

    async def scenario() -> None:
        reader, writer = os.pipe()
        transport, _ = await loop.subprocess_shell(
            Telling, "read wait; printf 0123456789", stdin=reader, stderr=None
        )
        os.close(reader)
        os.close(writer)
        # So that the pipe is full and at its end when the process is found dead.
        os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
        await transport._wait()
        if WAKES_AT_EXIT:
            await until(lambda: "lost" in told)
        assert told == [*b"0123456789", "end of pipe", "lost"]
        transport.close()

    run(loop, scenario())


def test_one_that_ended_and_was_not_closed(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> list[Any]:
        transport, _ = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, "true", stdin=None, stdout=None, stderr=None
        )
        await transport._wait()
        return [transport]

    holder = run(loop, scenario())
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        holder.clear()


@pytest.mark.parametrize("fails", ["connect_read_pipe", "connect_write_pipe"])
def test_pipes_that_cannot_be_connected(
    loop: aiopoll.EventLoop, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    async def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(loop, fails, refuse)

    async def scenario() -> None:
        with pytest.raises(OSError, match="Too many"):
            await asyncio.create_subprocess_exec(
                "sleep", "60", stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
        await asyncio.sleep(0)

    run(loop, scenario())
