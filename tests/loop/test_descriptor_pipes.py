"""Pipe transports whose pipe is closed by its owner: no other file is read or written."""

import asyncio
import errno
import os
import pty
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from tests.support.loops import OURS, on_asyncio_too, until

TURNS = 8
SECONDS_MAX = 30


@pytest.fixture(params=OURS)
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


class Recorder(asyncio.Protocol):
    """Records its callbacks."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


def pipes(stack: ExitStack) -> tuple[int, int]:
    ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for fd in ends:
        stack.callback(close, fd)
    return ends


def terminals(stack: ExitStack) -> tuple[int, int]:
    master, slave = pty.openpty()
    for fd in (master, slave):
        os.set_blocking(fd, False)
        stack.callback(close, fd)
    return slave, master


def sockets(stack: ExitStack) -> tuple[int, int]:
    ends = socket.socketpair()
    fds = (ends[0].detach(), ends[1].detach())
    for fd in fds:
        os.set_blocking(fd, False)
        stack.callback(close, fd)
    return fds


def close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass


Ends = Callable[[ExitStack], tuple[int, int]]


@pytest.fixture(params=[pipes, sockets, terminals])
def ends(request: pytest.FixtureRequest) -> Ends:
    """Makes two ends: data written to the second is read from the first."""
    made: Ends = request.param
    return made


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def taken(number: int, other: int, stack: ExitStack) -> None:
    """Gives the free number to the file of `other`."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    os.dup2(other, number)
    stack.callback(close, number)


def there(fd: int) -> bytes:
    """The data that can be read now."""
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


def is_bad(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EBADF


def quiet(loop: Any) -> list[dict[str, Any]]:
    """The reports of the loop."""
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    return reports


def test_a_closed_pipe_is_not_read_by_its_number(loop: Any, ends: Ends, stack: ExitStack) -> None:
    reports = quiet(loop)

    async def scenario() -> None:
        number, peer = ends(stack)
        other, others_peer = ends(stack)
        kept = os.dup(number)
        stack.callback(close, kept)
        pipe = open(number, "rb", 0)  # noqa: SIM115
        _, ours = await loop.connect_read_pipe(Recorder, pipe)
        await turns()
        pipe.close()
        taken(number, other, stack)
        os.write(others_peer, b"private\n")
        await turns()
        assert (ours.data, ours.lost) == (b"", [])
        assert there(number).rstrip() == b"private"
        # The file goes on under another number, so that it is reported: that is the error, once.
        os.write(peer, b"ours\n")
        await until(lambda: ours.lost)
        await turns()
        assert len(ours.lost) == 1
        assert is_bad(ours.lost[0])
        assert [is_bad(report["exception"]) for report in reports] == [True]
        assert there(kept).rstrip() == b"ours"
        assert os.fstat(number)

    loop.run_until_complete(asyncio.wait_for(scenario(), SECONDS_MAX))


@on_asyncio_too
def test_the_owners_close_of_a_reading_end_is_seen(loop: Any, stack: ExitStack) -> None:
    async def scenario() -> None:
        number, peer = pipes(stack)
        pipe = open(number, "rb", 0)  # noqa: SIM115
        transport, ours = await loop.connect_read_pipe(Recorder, pipe)
        await turns()
        pipe.close()
        with pytest.raises(BrokenPipeError):
            os.write(peer, b"x")
        await turns()
        assert ours.lost == []
        transport.close()
        await until(lambda: ours.lost)
        assert ours.lost == [None]

    loop.run_until_complete(asyncio.wait_for(scenario(), SECONDS_MAX))


@on_asyncio_too
def test_the_owners_close_of_a_writing_end_is_seen(loop: Any, stack: ExitStack) -> None:
    async def scenario() -> None:
        peer, number = pipes(stack)
        pipe = open(number, "wb", 0)  # noqa: SIM115
        transport, ours = await loop.connect_write_pipe(Recorder, pipe)
        await turns()
        pipe.close()
        assert os.read(peer, 1) == b""
        assert ours.lost == []
        transport.write(b"x")
        await until(lambda: ours.lost)
        assert len(ours.lost) == 1
        assert is_bad(ours.lost[0])

    loop.run_until_complete(asyncio.wait_for(scenario(), SECONDS_MAX))


def test_a_closed_pipe_is_not_written_to_by_its_number(
    loop: Any, ends: Ends, stack: ExitStack
) -> None:
    async def scenario() -> None:
        _, number = ends(stack)
        others_peer, other = ends(stack)
        pipe = open(number, "wb", 0)  # noqa: SIM115
        transport, ours = await loop.connect_write_pipe(Recorder, pipe)
        await turns()
        pipe.close()
        taken(number, other, stack)
        for _ in range(3):
            transport.write(b"ours\n")
        await until(lambda: ours.lost)
        assert len(ours.lost) == 1
        assert is_bad(ours.lost[0])
        await turns()
        assert there(others_peer) == b""
        assert os.fstat(number)

    loop.run_until_complete(asyncio.wait_for(scenario(), SECONDS_MAX))


@pytest.mark.parametrize("make", [pipes, sockets])
def test_data_waiting_for_a_write_reaches_no_other_file(
    loop: Any, make: Ends, stack: ExitStack
) -> None:
    async def scenario() -> None:
        peer, number = make(stack)
        kept = os.dup(number)
        stack.callback(close, kept)
        others_peer, other = make(stack)
        pipe = open(number, "wb", 0)  # noqa: SIM115
        transport, ours = await loop.connect_write_pipe(Recorder, pipe)
        transport.write(b"x" * 3_000_000)
        await turns()
        assert transport.get_write_buffer_size() > 0
        pipe.close()
        taken(number, other, stack)
        sent = 0
        while not ours.lost:
            sent += len(there(peer))
            await asyncio.sleep(0)
        assert sent < 3_000_000
        assert len(ours.lost) == 1
        assert is_bad(ours.lost[0])
        assert there(others_peer) == b""

    loop.run_until_complete(asyncio.wait_for(scenario(), SECONDS_MAX))


@pytest.mark.parametrize("direction", ["read", "write"])
def test_the_next_owners_watch_is_left_alone(loop: Any, direction: str, stack: ExitStack) -> None:
    async def scenario() -> None:
        read_fd, write_fd = pipes(stack)
        number = read_fd if direction == "read" else write_fd
        pipe = open(number, "rb" if direction == "read" else "wb", 0)  # noqa: SIM115
        connect = loop.connect_read_pipe if direction == "read" else loop.connect_write_pipe
        transport, ours = await connect(Recorder, pipe)
        await turns()
        other, others_peer = pipes(stack)
        pipe.close()
        taken(number, other, stack)
        seen: list[bytes] = []
        loop.add_reader(number, lambda: seen.append(there(number)))
        if direction == "read":
            transport.pause_reading()
            with pytest.raises(OSError, match="Bad file descriptor"):
                transport.resume_reading()
        transport.close()
        await until(lambda: ours.lost)
        os.write(others_peer, b"private\n")
        await until(lambda: seen)
        assert seen == [b"private\n"]
        assert loop.remove_reader(number)

    loop.run_until_complete(asyncio.wait_for(scenario(), SECONDS_MAX))


@pytest.mark.subprocess
def test_the_pipes_of_a_subprocess(loop: Any, stack: ExitStack) -> None:
    program = "import sys; sys.stdin.read(); sys.stdout.write('ours'); sys.stdout.flush()"
    reports = quiet(loop)

    class Child(asyncio.SubprocessProtocol):
        def __init__(self) -> None:
            self.data = b""
            self.lost: list[tuple[int, Exception | None]] = []
            self.exited = False

        def pipe_data_received(self, fd: int, data: bytes) -> None:
            self.data += data

        def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
            self.lost.append((fd, exc))

        def process_exited(self) -> None:
            self.exited = True

    async def scenario() -> None:
        transport, child = await loop.subprocess_exec(
            Child, sys.executable, "-c", program, stderr=None
        )
        process = transport.get_extra_info("subprocess")
        number = process.stdout.fileno()
        other, others_peer = pipes(stack)
        process.stdout.close()
        taken(number, other, stack)
        os.write(others_peer, b"private\n")
        await turns()
        assert child.data == b""
        assert there(number) == b"private\n"
        transport.get_pipe_transport(0).close()
        async with asyncio.timeout(SECONDS_MAX):
            await until(lambda: child.exited)
        # Its output had no reader any more.
        assert transport.get_returncode() not in (0, None)
        transport.close()
        await turns()
        assert os.fstat(number)
        assert child.data == b""

    loop.run_until_complete(asyncio.wait_for(scenario(), SECONDS_MAX))
    assert reports == []
