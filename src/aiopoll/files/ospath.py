"""os.path's functions that look at files, as coroutines: see aiopoll.files.os."""

import os
from typing import AnyStr, overload

from aiopoll.files.calls import AnyPath, in_thread

__all__ = [
    "abspath",
    "exists",
    "getatime",
    "getctime",
    "getmtime",
    "getsize",
    "isdir",
    "isfile",
    "islink",
    "ismount",
    "samefile",
    "sameopenfile",
]


@overload
async def abspath(path: os.PathLike[AnyStr]) -> AnyStr: ...
@overload
async def abspath(path: AnyStr) -> AnyStr: ...
async def abspath(path: AnyStr | os.PathLike[AnyStr]) -> AnyStr:
    """Calls os.path.abspath()."""
    return await in_thread(os.path.abspath, path)


async def exists(path: AnyPath | int) -> bool:
    """Calls os.path.exists()."""
    return await in_thread(os.path.exists, path)


async def getatime(filename: AnyPath | int) -> float:
    """Calls os.path.getatime()."""
    return await in_thread(os.path.getatime, filename)


async def getctime(filename: AnyPath | int) -> float:
    """Calls os.path.getctime()."""
    return await in_thread(os.path.getctime, filename)


async def getmtime(filename: AnyPath | int) -> float:
    """Calls os.path.getmtime()."""
    return await in_thread(os.path.getmtime, filename)


async def getsize(filename: AnyPath | int) -> int:
    """Calls os.path.getsize()."""
    return await in_thread(os.path.getsize, filename)


async def isdir(s: AnyPath | int) -> bool:
    """Calls os.path.isdir()."""
    return await in_thread(os.path.isdir, s)


async def isfile(path: AnyPath | int) -> bool:
    """Calls os.path.isfile()."""
    return await in_thread(os.path.isfile, path)


async def islink(path: AnyPath) -> bool:
    """Calls os.path.islink()."""
    return await in_thread(os.path.islink, path)


async def ismount(path: AnyPath | int) -> bool:
    """Calls os.path.ismount()."""
    return await in_thread(os.path.ismount, path)


async def samefile(f1: AnyPath | int, f2: AnyPath | int) -> bool:
    """Calls os.path.samefile()."""
    return await in_thread(os.path.samefile, f1, f2)


async def sameopenfile(fp1: int, fp2: int) -> bool:
    """Calls os.path.sameopenfile()."""
    return await in_thread(os.path.sameopenfile, fp1, fp2)
