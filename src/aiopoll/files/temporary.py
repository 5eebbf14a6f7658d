"""Temporary files and directories, with tempfile's names."""

import asyncio
import contextlib
import errno
import os
import tempfile
from collections.abc import AsyncIterator
from typing import Any

from aiopoll.files.calls import StrPath, create_unique, in_thread, to_the_end
from aiopoll.files.opening import Mode, Opening, open


def _unnamed(directory: Any, flags: int) -> int:
    """Opens a file without a name; without O_TMPFILE, a file whose name is removed at once."""
    kept = flags & (os.O_DIRECT | os.O_CLOEXEC)
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | kept, 0o600)
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EOPNOTSUPP, errno.ENOENT):
            raise
    fd, path = create_unique(directory, "tmp", "", os.O_RDWR | kept, 0o600)
    os.unlink(path)
    return fd


def TemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    dir: StrPath | None = None,
    *,
    errors: str | None = None,
    direct: bool = False,
) -> Opening[Any]:
    """Creates a file without a name, gone when it is closed: see tempfile.TemporaryFile.

    Await the result, or enter it with `async with`, as that of aiopoll.open().
    """

    def unnamed(path: Any, flags: int) -> int:
        return _unnamed(tempfile.gettempdir() if dir is None else dir, flags)

    return open(
        "<temporary>", mode, buffering, encoding, errors, newline, opener=unnamed, direct=direct
    )


@contextlib.asynccontextmanager
async def NamedTemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str = "",
    prefix: str = "tmp",
    dir: StrPath | None = None,
    *,
    errors: str | None = None,
    direct: bool = False,
    delete: bool = True,
) -> AsyncIterator[Any]:
    """Creates a file for `async with`; its `name` is its path.  See tempfile.NamedTemporaryFile.

    delete: whether the file is removed at the end.
    """
    directory = await in_thread(tempfile.gettempdir) if dir is None else dir
    flags = Mode(mode).flags(direct)
    making = in_thread(create_unique, directory, prefix, suffix, flags, 0o600)
    passed_on = keep = False
    try:
        fd, path = await to_the_end(making)
        opening = open(
            path, mode, buffering, encoding, errors, newline, opener=lambda *_: fd, direct=direct
        )
        passed_on = True
        async with opening as file:
            keep = not delete  # not before: until then no caller has the name
            yield file
    finally:
        if not making.cancelled() and making.exception() is None:
            fd, path = making.result()
            if not passed_on:
                os.close(fd)
            if not keep:
                await asyncio.shield(in_thread(_remove, path))


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@contextlib.asynccontextmanager
async def TemporaryDirectory(
    suffix: str | None = None, prefix: str | None = None, dir: StrPath | None = None
) -> AsyncIterator[str]:
    """Creates a directory for `async with`, which gets its path; removed with all its contents."""
    where = None if dir is None else os.fspath(dir)
    making = in_thread(tempfile.TemporaryDirectory, suffix, prefix, where)
    try:
        directory = await to_the_end(making)
        yield directory.name
    finally:
        if not making.cancelled() and making.exception() is None:
            await asyncio.shield(in_thread(making.result().cleanup))
