"""Files that refuse, are full, or are no files: errno and file name of the exception."""

import asyncio
import errno
import io
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aiopoll

TMPFS = Path("/dev/shm")
both = pytest.mark.parametrize("direct", [False, True], ids=["buffered", "direct"])


def has_tmpfs() -> bool:
    mounts = Path("/proc/mounts").read_text().splitlines()
    return any(line.split()[1:3] == [str(TMPFS), "tmpfs"] for line in mounts)


needs_tmpfs = pytest.mark.skipif(
    not has_tmpfs() or not os.access(TMPFS, os.W_OK), reason="skips.toml: files on tmpfs"
)


@both
def test_a_file_that_may_not_grow(run, tmp_path: Path, small_files, direct: bool) -> None:
    """EFBIG, after the part that fits (RLIMIT_FSIZE)."""
    path = tmp_path / "file"

    async def main() -> None:
        async with aiopoll.open(path, "w+b", direct=direct) as file:
            with small_files(8192):
                buffer = aiopoll.AlignedBuffer(4096)
                assert await file.pwrite(buffer, 4096) == 4096
                for data, offset in ((buffer, 8192), (b"x" * 5000, 4096), (b"x", 9000)):
                    with pytest.raises(OSError, match="too large") as caught:
                        await file.pwrite(data, offset)
                    assert caught.value.errno == errno.EFBIG
                    assert caught.value.filename == str(path)
                with pytest.raises(OSError, match="too large"):
                    await file.fallocate(0, 16384)
                with pytest.raises(OSError, match="too large"):
                    await file.truncate(10000)
            assert os.fstat(file.fileno()).st_size <= 8192

    run(main())


def test_flush_error_is_raised_by_flush_or_close(tmp_path: Path, small_files) -> None:
    async def main(mode: str, data: Any, end: str) -> None:
        file = await aiopoll.open(tmp_path / "file", mode)
        assert await file.write(data) == len(data)
        with small_files(0), pytest.raises(OSError, match="too large"):
            await getattr(file, end)()
        await file.close()
        assert file.closed

    for mode, data in (("wb", b"x" * 100), ("w", "x" * 100), ("ab", b"x" * 100)):
        for end in ("flush", "close"):
            if (mode, end) != ("w", "flush"):  # io.TextIOWrapper keeps it, and tries again
                aiopoll.run(main(mode, data, end))
                assert (tmp_path / "file").read_bytes() == b""


@both
def test_wrong_direction(run, tmp_path: Path, direct: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")

    async def main() -> None:
        async with aiopoll.open(path, "rb", direct=direct) as file:
            with pytest.raises(OSError, match="not writable"):
                file.pwrite(b"x", 0)
            with pytest.raises(OSError, match="not writable"):
                await file.write(b"x")
            with pytest.raises(OSError, match="not writable"):
                file.fallocate(0, 1)
            await file.fsync()
        async with aiopoll.open(path, "wb") as file:
            with pytest.raises(OSError, match="not readable"):
                file.pread(1, 0)
            with pytest.raises(OSError, match="not readable"):
                await file.readline()

    run(main())


@both
def test_a_descriptor_that_is_gone(run, tmp_path: Path, direct: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))

    async def main() -> None:
        file = await aiopoll.open(path, "r+b", direct=direct)
        await file.fsync()  # a ring that comes only now would take the descriptor's number
        os.close(file.fileno())
        buffer = aiopoll.AlignedBuffer(4096)
        for failing in (
            file.pread(1, 0),
            file.pread_into(buffer, 0),
            file.pwrite(buffer, 0),
            file.pwrite(b"x", 1),
            file.fsync(),
            file.datasync(),
            file.fallocate(0, 1),
        ):
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                await failing
            assert caught.value.errno == errno.EBADF
        with pytest.raises(OSError, match="Bad file descriptor"):
            await file.close()
        assert file.closed

    run(main())


def test_missing_forbidden_and_directories(tmp_path: Path) -> None:
    async def main() -> None:
        cases: list[tuple[Any, str, type[OSError]]] = [
            (tmp_path / "none", "rb", FileNotFoundError),
            (tmp_path / "none" / "file", "wb", FileNotFoundError),
            (tmp_path, "rb", IsADirectoryError),
            (tmp_path, "wb", IsADirectoryError),
            (tmp_path, "r", IsADirectoryError),
            (b"/dev/null/x", "rb", NotADirectoryError),
            ("/proc/self/mem/x", "rb", NotADirectoryError),
            ("x" * 300, "rb", OSError),
        ]
        for path, mode, kind in cases:
            with pytest.raises(kind) as caught:
                await aiopoll.open(path, mode)
            expected = os.fspath(path)
            assert caught.value.filename == expected
        fd = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(IsADirectoryError):
            await aiopoll.open(fd, "rb")
        os.close(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            await aiopoll.open(fd, "rb")

    aiopoll.run(main())


def test_no_descriptor_left(tmp_path: Path) -> None:
    """open raises EMFILE, and the loop continues."""

    async def main() -> None:
        await aiopoll.write_bytes(tmp_path / "file", b"x")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        opened = os.listdir("/proc/self/fd")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, opened)), limits[1]))
        spare = []
        try:
            while True:
                [result] = await asyncio.gather(
                    aiopoll.open(tmp_path / "file", "rb"), return_exceptions=True
                )
                if isinstance(result, BaseException):
                    break
                spare.append(result)
            assert isinstance(result, OSError)
            assert (result.errno, result.filename) == (errno.EMFILE, str(tmp_path / "file"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for file in spare:
            await file.close()
        assert await aiopoll.read_bytes(tmp_path / "file") == b"x"

    aiopoll.run(main())


def test_pipes_and_fifos(run, tmp_path: Path) -> None:
    """A cursor works where there are no positions; positional calls raise ESPIPE."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def main() -> None:
        reading, writing = await asyncio.gather(aiopoll.open(fifo, "rb"), aiopoll.open(fifo, "wb"))
        assert not reading.seekable()
        await writing.write(b"one\ntwo\nthree")
        await writing.flush()
        assert await reading.readline() == b"one\n"
        assert await reading.read(2) == b"tw"
        assert await reading.read1() == b"o\nthree"
        for failing in (reading.pread(1, 0), writing.pwrite(b"x", 0)):
            with pytest.raises(OSError, match="Illegal seek") as caught:
                await failing
            assert caught.value.errno == errno.ESPIPE
        with pytest.raises(OSError, match="Illegal seek"):
            await reading.tell()
        for failing in (reading.seek(0), writing.seek(0)):
            with pytest.raises(io.UnsupportedOperation, match="not seekable"):
                await failing
        # A reader that was cancelled while it waited: the next one gets the data.
        task = asyncio.create_task(reading.read(5))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await writing.write(b"later")
        await writing.close()
        assert await reading.read() == b"later"
        await reading.close()

    run(main())


def test_fifo_without_another_end_hangs_nothing(run, tmp_path: Path) -> None:
    """Opens and reads of a FIFO that are cancelled leave no thread that the loop waits for."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def main() -> None:
        for mode in ("rb", "wb", "r", "w"):
            task = asyncio.create_task(aiopoll.open(fifo, mode).__aenter__())
            for _ in range(3):
                await asyncio.sleep(0)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        read_fd, write_fd = os.pipe()
        async with aiopoll.open(read_fd, "rb") as reading:
            task = asyncio.create_task(reading.read())
            for _ in range(3):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        os.close(write_fd)

    run(main())


def test_text_through_a_pipe_comes_line_by_line(run) -> None:
    async def main() -> None:
        read_fd, write_fd = os.pipe()
        async with aiopoll.open(read_fd) as reading, aiopoll.open(write_fd, "w") as writing:
            for line in ("ä\n", "ö\n"):
                await writing.write(line)
                await writing.flush()
                assert await reading.readline() == line
            await writing.close()
            assert await reading.read() == ""

    run(main())


def test_files_of_proc_and_devices(run) -> None:
    async def main() -> None:
        async with aiopoll.open("/proc/self/status") as file:
            assert (await file.readline()).startswith("Name:")
            assert "Pid:" in await file.read()
        async with aiopoll.open("/proc/self/stat", "rb") as file:
            data = await file.read()
            assert data.startswith(str(os.getpid()).encode())
            assert (await file.pread(3, 0)) == data[:3]
        async with aiopoll.open("/dev/zero", "rb") as file:
            assert await file.pread(5, 10**6) == bytes(5)
        async with aiopoll.open("/proc/self/mem", "rb") as file:
            for reading in (file.pread(8, 0), file.read(8)):  # nothing is mapped there
                with pytest.raises(OSError, match="Input/output error") as caught:
                    await reading
                assert (caught.value.errno, caught.value.filename) == (errno.EIO, "/proc/self/mem")
        async with aiopoll.open("/dev/full", "wb", 0) as file:
            with pytest.raises(OSError, match="No space left") as caught:
                await file.write(b"x")
            assert caught.value.errno == errno.ENOSPC
        async with aiopoll.open("/dev/null", "r+b") as file:
            assert await file.write(b"x") == 1
            assert await file.read() == b""

    run(main())


@needs_tmpfs
@both
def test_tmpfs_has_no_asynchronous_io(run, direct: bool) -> None:
    """Its files are memory: threads do the I/O, with O_DIRECT too where it is accepted."""

    async def main() -> None:
        opening = aiopoll.TemporaryFile(dir=TMPFS, direct=direct)
        [opened] = await asyncio.gather(opening, return_exceptions=True)
        if isinstance(opened, OSError):  # before Linux 6.6
            assert (direct, opened.errno) == (True, errno.EINVAL)
            assert "direct=True" in str(opened)
            return
        async with opened as file:
            await file.pwrite(b"0123456789", 5)
            assert await file.pread(100, 0) == bytes(5) + b"0123456789"
            for _ in range(3):
                assert await file.pread(4, 6) == b"1234"
            await file.fsync()
            counts = file.statistics()
            assert counts.inline_reads == 0
            assert counts.thread_reads == 4
            assert counts.aio_reads <= 1

    run(main())


ENOSPC = """
import asyncio, ctypes, errno, os, sys, aiopoll
uid, gid = os.geteuid(), os.getegid()
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x20000 if uid == 0 else 0x10020000):
    sys.exit(77)
if uid:
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        open(f"/proc/self/{name}", "w").write(text)
if libc.mount(None, b"/", None, ctypes.c_ulong(0x44000), None) or libc.mount(
        b"small", sys.argv[1].encode(), b"tmpfs", ctypes.c_ulong(0), b"size=64k"):
    sys.exit(77)
async def main():
    async with aiopoll.open(sys.argv[1] + "/file", "w+b") as file:
        assert await file.pwrite(b"x" * 60000, 0) == 60000
        try:
            await file.pwrite(b"x" * 60000, 60000)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            assert error.filename == sys.argv[1] + "/file"
        else:
            raise AssertionError("no error")
        try:
            await aiopoll.write_atomic(sys.argv[1] + "/other", b"x" * 60000)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        else:
            raise AssertionError("no error")
        assert os.listdir(sys.argv[1]) == ["file"]
aiopoll.run(main())
"""


@pytest.mark.subprocess
def test_a_full_file_system(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENOSPC, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 77:
        pytest.skip(reason="skips.toml: files on a full file system: no mount allowed")
    assert done.returncode == 0, done.stderr
