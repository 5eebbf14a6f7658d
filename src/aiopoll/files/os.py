"""os' functions on files and directories, as coroutines: `from aiopoll.files import os as aios`.

Each is one call of the function of the same name in a thread of the files' pool, with its arguments
and exceptions.  `path` has those of os.path.  aiopoll.Path has the same calls as methods, and
aiopoll.scandir() fetches entries without blocking the loop.
Source: os, aiofiles.os.
"""

import functools
import os
from collections.abc import Callable, Coroutine
from typing import Any, AnyStr, ParamSpec, TypeVar, overload

from aiopoll.files import ospath as path
from aiopoll.files.calls import AnyPath, in_own_thread, in_thread

__all__ = [
    "access",
    "getcwd",
    "link",
    "listdir",
    "makedirs",
    "mkdir",
    "path",
    "readlink",
    "remove",
    "removedirs",
    "rename",
    "renames",
    "replace",
    "rmdir",
    "scandir",
    "sendfile",
    "stat",
    "statvfs",
    "symlink",
    "unlink",
    "wrap",
]

P = ParamSpec("P")
T = TypeVar("T")


def wrap(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Returns a coroutine function that calls `function` in a thread of the files' pool.

    A cancelled call is still carried out, unless no thread has begun it.
    """

    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return await in_thread(function, *args, **kwargs)

    return call


async def access(
    path: AnyPath | int,
    mode: int,
    *,
    dir_fd: int | None = None,
    effective_ids: bool = False,
    follow_symlinks: bool = True,
) -> bool:
    """Calls os.access()."""
    return await in_thread(
        os.access,
        path,
        mode,
        dir_fd=dir_fd,
        effective_ids=effective_ids,
        follow_symlinks=follow_symlinks,
    )


async def getcwd() -> str:
    """Calls os.getcwd()."""
    return await in_thread(os.getcwd)


async def link(
    src: AnyPath,
    dst: AnyPath,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
    follow_symlinks: bool | None = None,
) -> None:
    """Calls os.link(); None is its own default, which depends on the version of Python."""
    options: dict[str, Any] = {"src_dir_fd": src_dir_fd, "dst_dir_fd": dst_dir_fd}
    if follow_symlinks is not None:
        options["follow_symlinks"] = follow_symlinks
    await in_thread(os.link, src, dst, **options)


@overload
async def listdir(path: str | os.PathLike[str] | int | None = None) -> list[str]: ...
@overload
async def listdir(path: bytes | os.PathLike[bytes]) -> list[bytes]: ...
async def listdir(path: AnyPath | int | None = None) -> list[str] | list[bytes]:
    """Calls os.listdir()."""
    listed: list[str] | list[bytes] = await in_thread(os.listdir, path)
    return listed


async def makedirs(name: AnyPath, mode: int = 0o777, exist_ok: bool = False) -> None:
    """Calls os.makedirs()."""
    await in_thread(os.makedirs, name, mode, exist_ok)


async def mkdir(path: AnyPath, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    """Calls os.mkdir()."""
    await in_thread(os.mkdir, path, mode, dir_fd=dir_fd)


@overload
async def readlink(path: os.PathLike[AnyStr], *, dir_fd: int | None = None) -> AnyStr: ...
@overload
async def readlink(path: AnyStr, *, dir_fd: int | None = None) -> AnyStr: ...
async def readlink(path: AnyStr | os.PathLike[AnyStr], *, dir_fd: int | None = None) -> AnyStr:
    """Calls os.readlink()."""
    return await in_thread(os.readlink, path, dir_fd=dir_fd)


async def remove(path: AnyPath, *, dir_fd: int | None = None) -> None:
    """Calls os.remove()."""
    await in_thread(os.remove, path, dir_fd=dir_fd)


async def removedirs(name: AnyPath) -> None:
    """Calls os.removedirs()."""
    await in_thread(os.removedirs, name)


async def rename(
    src: AnyPath, dst: AnyPath, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    """Calls os.rename()."""
    await in_thread(os.rename, src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


async def renames(old: AnyPath, new: AnyPath) -> None:
    """Calls os.renames()."""
    await in_thread(os.renames, old, new)


async def replace(
    src: AnyPath, dst: AnyPath, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    """Calls os.replace()."""
    await in_thread(os.replace, src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


async def rmdir(path: AnyPath, *, dir_fd: int | None = None) -> None:
    """Calls os.rmdir()."""
    await in_thread(os.rmdir, path, dir_fd=dir_fd)


@overload
async def scandir(path: None = None) -> "os._ScandirIterator[str]": ...
@overload
async def scandir(path: int) -> "os._ScandirIterator[str]": ...
@overload
async def scandir(path: AnyStr | os.PathLike[AnyStr]) -> "os._ScandirIterator[AnyStr]": ...
async def scandir(path: Any = None) -> Any:
    """Calls os.scandir(), whose iterator blocks: aiopoll.scandir() has one that does not."""
    return await in_thread(os.scandir, path)


async def sendfile(out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
    """Calls os.sendfile(), which may wait for the receiver: in a thread of its own."""
    return await in_own_thread(os.sendfile, out_fd, in_fd, offset, count)


async def stat(
    path: AnyPath | int, *, dir_fd: int | None = None, follow_symlinks: bool = True
) -> os.stat_result:
    """Calls os.stat()."""
    return await in_thread(os.stat, path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)


async def statvfs(path: AnyPath | int) -> os.statvfs_result:
    """Calls os.statvfs()."""
    return await in_thread(os.statvfs, path)


async def symlink(
    src: AnyPath,
    dst: AnyPath,
    target_is_directory: bool = False,
    *,
    dir_fd: int | None = None,
) -> None:
    """Calls os.symlink()."""
    await in_thread(os.symlink, src, dst, target_is_directory, dir_fd=dir_fd)


async def unlink(path: AnyPath, *, dir_fd: int | None = None) -> None:
    """Calls os.unlink()."""
    await in_thread(os.unlink, path, dir_fd=dir_fd)
