"""Reading and writing blocks of one file, by each of the implementations for files.

`opened(implementation, path, depth, …)` is a context in which `read(offset)` and `write(data,
offset)` are awaited.  aiopoll and the threads bypass the page cache (O_DIRECT).  The other
libraries have no aligned buffers and use the page cache; a workload on a cold file empties it
beforehand.
"""

import asyncio
import contextlib
import functools
import mmap
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.native import BUILD

BLOCK = 4096
PATTERN = bytes((index * 7 + 1) & 0xFF for index in range(BLOCK))
"""The content of each block, which benchmarks/c/client.c expects in a response."""


@dataclass(frozen=True)
class Blocks:
    read: Callable[[int], Awaitable[Any]]
    write: Callable[[bytes, int], Awaitable[Any]]  # durable when awaited


def data_file(name: str, mib: int) -> Path:
    """A file of so many MiB of PATTERN on the disk of the checkout; made if it is not there."""
    path = BUILD / f"{name}-{mib}"
    if path.exists() and path.stat().st_size == mib << 20:
        return path
    BUILD.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    with open(unfinished, "wb") as file:
        file.writelines(PATTERN * 256 for _ in range(mib))
        os.fsync(file.fileno())
    unfinished.rename(path)
    return path


def forget(path: Path) -> None:
    """Takes the file out of the page cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def remember(path: Path) -> None:
    """Puts the file into the page cache."""
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass


def _takes_direct(path: Path) -> bool:
    """Some file systems do not: tmpfs before Linux 6.6."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return False
    return True


@contextlib.asynccontextmanager
async def opened(
    implementation: str, path: Path, depth: int, *, direct: bool, size: int = BLOCK
) -> AsyncIterator[Blocks]:
    """`depth` requests may be made side by side; each read is of `size` bytes."""
    direct = direct and _takes_direct(path)
    by = {
        "aiopoll-files": _aiopoll,
        "threads": _threads,
        "uvloop-threads": _threads,
        "aiopoll-threads": _threads,
        "aiofiles": _aiofiles,
        "anyio": _anyio,
        "caio-threads": _caio,
        "caio-linux-aio": _caio,
    }
    async with by[implementation](implementation, path, depth, direct, size) as blocks:
        yield blocks


@contextlib.asynccontextmanager
async def _aiopoll(
    implementation: str, path: Path, depth: int, direct: bool, size: int
) -> AsyncIterator[Blocks]:
    import aiopoll

    async with aiopoll.open(path, "r+b", direct=direct) as file:
        yield Blocks(
            read=lambda offset: file.pread(size, offset),
            write=lambda data, offset: file.pwrite(data, offset, dsync=True),
        )


@contextlib.asynccontextmanager
async def _threads(
    implementation: str, path: Path, depth: int, direct: bool, size: int
) -> AsyncIterator[Blocks]:
    loop = asyncio.get_running_loop()
    fd = os.open(path, os.O_RDWR | (os.O_DIRECT if direct else 0))
    buffers = [mmap.mmap(-1, max(size, BLOCK)) for _ in range(depth)]  # page-aligned

    def read(offset: int) -> bytes:
        if not direct:
            return os.pread(fd, size, offset)
        buffer = buffers.pop()
        try:
            count = os.preadv(fd, [memoryview(buffer)[:size]], offset)
            return buffer[:count]
        finally:
            buffers.append(buffer)

    def write(data: bytes, offset: int) -> int:
        buffer = buffers.pop()
        try:
            buffer[: len(data)] = data
            return os.pwritev(fd, [memoryview(buffer)[: len(data)]], offset, os.RWF_DSYNC)
        finally:
            buffers.append(buffer)

    with ThreadPoolExecutor(depth) as pool:
        yield Blocks(
            read=lambda offset: loop.run_in_executor(pool, read, offset),
            write=lambda data, offset: loop.run_in_executor(pool, write, data, offset),
        )
    os.close(fd)


def _with_cursors(
    free: list[tuple[Any, int]], size: int, in_thread: Callable[..., Awaitable[Any]]
) -> Blocks:
    """Over files, and their descriptors, that have a cursor each: one is taken for every block."""
    for _, fd in free:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)

    async def read(offset: int) -> bytes:
        file, fd = free.pop()
        await file.seek(offset)
        data: bytes = await file.read(size)
        free.append((file, fd))
        return data

    async def write(data: bytes, offset: int) -> None:
        file, fd = free.pop()
        await file.seek(offset)
        await file.write(data)
        await in_thread(os.fdatasync, fd)
        free.append((file, fd))

    return Blocks(read, write)


@contextlib.asynccontextmanager
async def _aiofiles(
    implementation: str, path: Path, depth: int, direct: bool, size: int
) -> AsyncIterator[Blocks]:
    import aiofiles

    in_thread = functools.partial(asyncio.get_running_loop().run_in_executor, None)
    async with contextlib.AsyncExitStack() as stack:
        files = [
            await stack.enter_async_context(aiofiles.open(path, "r+b", buffering=0))
            for _ in range(depth)
        ]
        yield _with_cursors([(file, file.fileno()) for file in files], size, in_thread)


@contextlib.asynccontextmanager
async def _anyio(
    implementation: str, path: Path, depth: int, direct: bool, size: int
) -> AsyncIterator[Blocks]:
    import anyio
    import anyio.to_thread

    async with contextlib.AsyncExitStack() as stack:
        files = [
            await stack.enter_async_context(await anyio.open_file(path, "r+b", buffering=0))
            for _ in range(depth)
        ]
        free = [(file, file.wrapped.fileno()) for file in files]
        yield _with_cursors(free, size, anyio.to_thread.run_sync)


@contextlib.asynccontextmanager
async def _caio(
    implementation: str, path: Path, depth: int, direct: bool, size: int
) -> AsyncIterator[Blocks]:
    if implementation == "caio-threads":
        from caio.thread_aio_asyncio import AsyncioContext
    else:
        from caio.linux_aio_asyncio import AsyncioContext
    fd = os.open(path, os.O_RDWR)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    context = AsyncioContext(max_requests=2 * depth)

    async def write(data: bytes, offset: int) -> None:
        await context.write(data, fd, offset)
        await context.fdsync(fd)

    try:
        yield Blocks(read=lambda offset: context.read(size, fd, offset), write=write)
    finally:
        context.close()
        os.close(fd)
