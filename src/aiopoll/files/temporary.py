"""Temporary files and directories, by tempfile's names."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from typing import Any

from aiopoll.files.calls import StrPath, in_thread
from aiopoll.files.opening import Opening, open

TRIES = 100


def _unnamed(directory: Any, flags: int) -> int:
    """Opens a file without a name; where the file system has none, one whose name is gone."""
    kept = flags & (os.O_DIRECT | os.O_CLOEXEC)
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | kept, 0o600)
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EOPNOTSUPP, errno.ENOENT):
            raise
    path = _candidate(directory, "tmp", "")
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | kept, 0o600)
    os.unlink(path)
    return fd


def _candidate(directory: StrPath, prefix: str, suffix: str) -> str:
    return os.path.join(directory, f"{prefix}{os.urandom(6).hex()}{suffix}")


def _private(path: Any, flags: int) -> int:
    return os.open(path, flags, 0o600)


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
    """A file without a name, gone when it is closed: see tempfile.TemporaryFile.

    To be awaited, or entered with `async with`, as aiopoll.open().
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
    """`async with` a new file, whose `name` is its path: see tempfile.NamedTemporaryFile.

    delete: whether it is removed at the end.
    """
    directory = await in_thread(tempfile.gettempdir) if dir is None else dir
    # "w" would open what another one has put there.
    mode = mode.replace("w", "x")
    for left in reversed(range(TRIES)):
        path = _candidate(directory, prefix, suffix)
        try:
            file = await open(
                path, mode, buffering, encoding, errors, newline, opener=_private, direct=direct
            )
            break
        except FileExistsError:
            if not left:
                raise
    try:
        async with file:
            yield file
    finally:
        if delete:
            await in_thread(_remove, path)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@contextlib.asynccontextmanager
async def TemporaryDirectory(
    suffix: str | None = None, prefix: str | None = None, dir: StrPath | None = None
) -> AsyncIterator[str]:
    """`async with` the path of a new directory, removed at the end with all that is in it."""
    where = None if dir is None else os.fspath(dir)
    path = await in_thread(tempfile.mkdtemp, suffix, prefix, where)
    try:
        yield path
    finally:
        await in_thread(shutil.rmtree, path)
