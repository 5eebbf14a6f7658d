"""Calls on whole files and directories, each one hop to a thread of the files' own pool."""

import asyncio
import contextlib
import errno
import functools
import itertools
import os
import shutil
import stat
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from aiopoll.files.lifetime import keep_until_shutdown
from aiopoll.files.scheduler import queue_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

StrPath = str | os.PathLike[str]
AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
P = ParamSpec("P")
T = TypeVar("T")

ENTRIES_MAX = 512
"""The number of directory entries fetched at once."""


def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Calls a function in a thread of the files' pool; returns a future of its result.

    The pool is the event loop's own: a full default executor of asyncio does not delay files.  A
    cancelled call is still carried out, unless no thread has begun it.
    """
    loop = asyncio.get_running_loop()
    queue = queue_of(loop)
    keep_until_shutdown(loop, queue)
    return queue.call(functools.partial(function, *args, **kwargs))


def in_own_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Calls a function that may wait for ever, in a thread that no other call needs."""
    loop = asyncio.get_running_loop()
    queue = queue_of(loop)
    keep_until_shutdown(loop, queue)
    return queue.call(functools.partial(function, *args, **kwargs), patient=True)


def waits_in_open(path: Any) -> bool:
    """Whether opening `path` may wait for ever: a FIFO for its other end, a terminal for a line."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def unless_waits(path: Any, function: Callable[[], T]) -> T | None:
    """Calls `function`, which opens `path`; returns None without a call where that may wait."""
    return None if waits_in_open(path) else function()


async def with_file_at(path: Any, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function that opens `path` in a thread; one that may wait for ever gets its own."""
    call = functools.partial(function, *args, **kwargs)
    done = await in_thread(unless_waits, path, lambda: (call(),))
    if done is not None:
        return done[0]
    return await queue_of(asyncio.get_running_loop()).call(call, patient=True)


async def to_the_end(future: asyncio.Future[T]) -> T:
    """Waits until a future is done, even if the caller is cancelled; raises that afterwards."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return future.result()


async def read_bytes(path: StrPath) -> bytes:
    """Reads a file in one hop; returns its bytes.  Raises OSError, as open() does."""
    return await with_file_at(path, _read_bytes, path)


def _read_bytes(path: StrPath) -> bytes:
    with open(path, "rb") as file:
        return file.read()


async def write_bytes(path: StrPath, data: "Buffer") -> int:
    """Creates a file or replaces its contents, in one hop; returns the number of bytes.

    A reader may see a part of the data meanwhile; write_atomic() has no such moment.  Raises
    OSError, as open() does.
    """
    return await with_file_at(path, _write_bytes, path, data)


def _write_bytes(path: StrPath, data: "Buffer") -> int:
    with open(path, "wb") as file:
        return file.write(data)


async def write_atomic(path: StrPath, data: "Buffer", *, mode: int | None = None) -> None:
    """Creates or replaces a file so that it has the old contents or the new, even after a crash.

    The data goes to a new file in the same directory.  That file is synced and renamed over the
    old one; then the directory is synced.  A symbolic link is followed.  mode: permissions; None
    for those of the replaced file, or 0o666 less the umask.  When this returns, all data is on
    the device.  Raises OSError, EINVAL where `path` is no regular file.
    Source: rename(2), fsync(2).
    """
    await in_thread(_write_atomic, path, data, mode)


def _write_atomic(path: StrPath, data: "Buffer", mode: int | None) -> None:
    target = os.path.realpath(path)
    directory = os.path.dirname(target)
    try:
        status = os.stat(target)
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "only a regular file can be replaced", os.fspath(path))
        if mode is None:
            mode = stat.S_IMODE(status.st_mode)
    # With known permissions no other user can read the data before they are set.
    permissions = 0o666 if mode is None else 0o600
    fd, temporary = create_unique(directory, ".", ".tmp", os.O_WRONLY, permissions)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if mode is not None:
                os.fchmod(fd, mode)
            os.fsync(fd)
        os.rename(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(directory)


def create_unique(
    directory: StrPath, prefix: str, suffix: str, flags: int, mode: int
) -> tuple[int, str]:
    """Creates a file with a unique name; returns its descriptor and path.  Blocks."""
    flags = flags & ~os.O_TRUNC | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    while True:
        path = os.path.join(directory, f"{prefix}{os.urandom(8).hex()}{suffix}")
        with contextlib.suppress(FileExistsError):
            return os.open(path, flags, mode), path


def sync_directory(directory: StrPath) -> None:
    """Brings the entries of a directory to the device; blocks."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


async def copyfile(source: StrPath, target: StrPath) -> int:
    """Copies the contents of a file, in the kernel where possible; returns the number of bytes.

    Replaces the contents of an existing target.  Raises shutil.SameFileError, an OSError, where
    both paths name one file.  Source: shutil.copyfile.
    """
    return await with_file_at(source, _copyfile, source, target)


def _copyfile(source: StrPath, target: StrPath) -> int:
    shutil.copyfile(source, target)
    return os.stat(target).st_size


async def in_batches(make: Callable[[], Iterable[T]]) -> AsyncGenerator[T, None]:
    """Iterates in threads over the result of `make`, fetching many items at once."""
    iterator = iter(await in_thread(make))
    while batch := await in_thread(_next_batch, iterator):
        for item in batch:
            yield item


def _next_batch(iterator: Iterator[T]) -> list[T]:
    return list(itertools.islice(iterator, ENTRIES_MAX))


async def scandir(path: StrPath = ".") -> AsyncGenerator[os.DirEntry[str], None]:
    """Yields the entries of a directory, as os.scandir does, many fetched at once.

    The entries' methods are os.DirEntry's, and block: is_dir() seldom needs the disk, stat() does.
    """

    def entries() -> Iterator[os.DirEntry[str]]:
        # `with` closes it at its end, or when the generator is dropped.
        with os.scandir(path) as found:
            yield from found

    async for entry in in_batches(entries):
        yield entry
