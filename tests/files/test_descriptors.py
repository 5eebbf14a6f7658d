"""Files given by descriptor: actions of the numbers' owners, and isolation from other files."""

import asyncio
import errno
import fcntl
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiopoll

SECONDS_MAX = 60


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    ours, private = tmp_path / "ours", tmp_path / "private"
    ours.write_bytes(b"ours\n" * 10)
    private.write_bytes(b"private\n" * 10)
    return ours, private


def hand_over(number: int, other: int) -> None:
    """The owner closes a descriptor, and another file gets its number."""
    os.close(number)
    os.dup2(other, number)


# Files without another end


@pytest.mark.parametrize("direct", [False, True])
def test_a_regular_file_is_the_one_that_was_given(
    run: Any, paths: tuple[Path, Path], direct: bool
) -> None:
    async def main() -> None:
        number = os.open(paths[0], os.O_RDWR | (os.O_DIRECT if direct else 0))
        private = os.open(paths[1], os.O_RDWR)
        file = await aiopoll.open(number, "r+b", closefd=False)
        hand_over(number, private)
        assert file.fileno() == file.name == number
        assert await file.pread(4, 0) == b"ours"
        await file.pwrite(b"OURS", 0)
        await file.fsync()
        assert await file.readline() == b"OURS\n"
        await file.write(b"w" * 100)
        await file.flush()
        assert await file.truncate(10) == 10
        await file.fallocate(0, 20)
        assert await file.seek(0, os.SEEK_END) == 20
        await file.close()
        assert paths[0].read_bytes() == b"OURS\nwwwww" + bytes(10)
        assert paths[1].read_bytes() == b"private\n" * 10
        assert os.fstat(number).st_ino == paths[1].stat().st_ino
        os.close(number)
        os.close(private)

    run(main())


def test_text_is_of_the_file_that_was_given(run: Any, paths: tuple[Path, Path]) -> None:
    async def main() -> None:
        number = os.open(paths[0], os.O_RDWR)
        private = os.open(paths[1], os.O_RDWR)
        file = await aiopoll.open(number, "r+", closefd=False)
        hand_over(number, private)
        assert await file.readline() == "ours\n"
        await file.seek(0)
        await file.write("TEXT\n")
        await file.close()
        assert paths[0].read_text() == "TEXT\n" + "ours\n" * 9
        assert paths[1].read_bytes() == b"private\n" * 10
        os.close(number)
        os.close(private)

    run(main())


def test_calls_in_flight_continue_after_the_owners_close(
    run: Any, paths: tuple[Path, Path]
) -> None:
    async def main() -> None:
        number = os.open(paths[0], os.O_RDWR)
        private = os.open(paths[1], os.O_RDWR)
        file = await aiopoll.open(number, "r+b", closefd=False)
        calls = [file.pwrite(b"OURS\n", 5 * i) for i in range(10)]
        calls.append(file.fsync())
        hand_over(number, private)
        closing = asyncio.ensure_future(file.close())
        await asyncio.gather(*calls)
        await closing
        assert paths[0].read_bytes() == b"OURS\n" * 10
        assert paths[1].read_bytes() == b"private\n" * 10
        os.close(number)
        os.close(private)

    run(main())


def test_the_position_is_the_descriptors(run: Any, paths: tuple[Path, Path]) -> None:
    async def main() -> None:
        with paths[0].open("rb", buffering=0) as owner:
            owner.seek(5)
            async with aiopoll.open(owner.fileno(), "rb", closefd=False) as file:
                assert await file.tell() == 5
                assert await file.read(5) == b"ours\n"
            async with aiopoll.open(owner.fileno(), closefd=False) as text:
                assert await text.readline() == "ours\n"
            assert os.fstat(owner.fileno())

    run(main())


LOCKER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("locked")
"""


def lock_seen_by_others(path: Path) -> bool:
    command = [sys.executable, "-c", LOCKER, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=SECONDS_MAX)
    return done.stdout == b"locked\n"


@pytest.mark.subprocess
def test_the_owners_record_locks_stay(run: Any, paths: tuple[Path, Path]) -> None:
    async def main() -> None:
        with paths[0].open("r+b") as owner:
            fcntl.lockf(owner, fcntl.LOCK_EX)
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                owner.seek(0)
                async with aiopoll.open(owner.fileno(), "rb", closefd=False) as file:
                    assert await file.read(4) == b"ours"
                async with aiopoll.open(owner.fileno(), "r", closefd=False) as text:
                    assert await text.read(4) == "ours"
            assert lock_seen_by_others(paths[0])
            assert len(os.listdir("/proc/self/fd")) <= before + 1  # it is used again each time
            fcntl.lockf(owner, fcntl.LOCK_UN)
            async with aiopoll.open(owner.fileno(), "rb", closefd=False) as file:
                assert await file.pread(4, 0) == b"ours"
            assert not lock_seen_by_others(paths[0])

    run(main())


# Pipes, sockets, terminals

Ends = Callable[[], tuple[int, int]]


def sockets() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def terminals() -> tuple[int, int]:
    master, slave = pty.openpty()
    return slave, master


ENDS: dict[str, Ends] = {"pipe": os.pipe, "socket": sockets, "terminal": terminals}


@pytest.fixture(params=ENDS)
def ends(request: pytest.FixtureRequest) -> Ends:
    """Makes two ends: data written to the second is read from the first."""
    return ENDS[request.param]


def is_bad(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EBADF


@pytest.mark.parametrize("mode", ["rb", "r"])
def test_a_number_that_names_another_file_is_not_read(run: Any, ends: Ends, mode: str) -> None:
    async def main() -> None:
        number, peer = ends()
        other, others_peer = ends()
        os.write(others_peer, b"private\n")
        file = await aiopoll.open(number, mode, closefd=False)
        hand_over(number, other)
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            await file.readline()
        assert is_bad(caught.value)
        await file.close()
        assert os.read(number, 100).rstrip() == b"private"
        for fd in (number, peer, other, others_peer):
            os.close(fd)

    run(main())


async def write_through(file: Any, data: bytes | str) -> None:
    await file.write(data)
    await file.flush()


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_a_number_that_names_another_file_is_not_written_to(run: Any, mode: str) -> None:
    async def main() -> None:
        peer, number = os.pipe()
        others_peer, other = os.pipe()
        file: Any = await aiopoll.open(number, mode, closefd=False)
        data = "data\n" if mode == "w" else b"data\n"
        await file.write(data)
        await file.flush()
        assert os.read(peer, 100) == b"data\n"
        hand_over(number, other)
        with pytest.raises(OSError, match="Bad file descriptor"):
            await write_through(file, data)
        if mode == "wb":
            await file.close()
        else:  # io tries again to write its buffer
            with pytest.raises(OSError, match="Bad file descriptor"):
                await file.close()
        os.set_blocking(others_peer, False)
        with pytest.raises(BlockingIOError):
            os.read(others_peer, 1)
        for fd in (number, peer, other, others_peer):
            os.close(fd)

    run(main())


def test_the_owners_close_is_seen_by_the_peer(run: Any) -> None:
    async def main() -> None:
        read_fd, write_fd = os.pipe()
        file = await aiopoll.open(write_fd, "wb", closefd=False)
        await file.write(b"x")
        os.close(write_fd)
        assert os.read(read_fd, 10) == b"x"
        assert os.read(read_fd, 10) == b""
        assert not file.isatty()
        with pytest.raises(OSError, match="Bad file descriptor"):
            await file.write(b"y")
        await file.close()
        os.close(read_fd)

    run(main())


def test_a_read_that_waits_does_not_take_another_files_data(run: Any, ends: Ends) -> None:
    async def main() -> None:
        number, peer = ends()
        other, others_peer = ends()
        kept = os.dup(number)
        file = await aiopoll.open(number, "rb", closefd=False)
        reading = asyncio.ensure_future(file.readline())
        for _ in range(20):
            await asyncio.sleep(0)
        hand_over(number, other)
        os.write(others_peer, b"private\n")
        os.write(peer, b"ours\n")
        for _ in range(20):
            await asyncio.sleep(0)
        # It fails, or goes on waiting; the data is left to the present owners of the files.
        assert os.read(number, 100).rstrip() == b"private"
        assert os.read(kept, 100).rstrip() == b"ours"
        reading.cancel()
        [result] = await asyncio.gather(reading, return_exceptions=True)
        assert is_bad(result) or isinstance(result, asyncio.CancelledError)
        await file.close()
        for fd in (number, peer, other, others_peer, kept):
            os.close(fd)

    run(main())


@pytest.mark.parametrize("mode", ["rb", "r"])
def test_the_other_end_of_a_pipe_is_another_file(run: Any, mode: str) -> None:
    async def main() -> None:
        read_fd, write_fd = os.pipe()
        file = await aiopoll.open(read_fd, mode, closefd=False)
        hand_over(read_fd, write_fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            await file.read()
        await file.close()
        os.close(read_fd)
        os.close(write_fd)

    run(main())


def test_an_owned_number_is_closed(run: Any, ends: Ends) -> None:
    async def main() -> None:
        number, peer = ends()
        async with aiopoll.open(number, "rb") as file:
            os.write(peer, b"abc\n")
            assert (await file.readline()).rstrip() == b"abc"
            assert file.fileno() == number
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
        os.close(peer)

    run(main())
