"""aiopoll.open, aiopoll.Path and the other names of aiopoll's files: they are the host's.

Facts: the package imports its parts at the first use of a name, and the parts are compiled. Paths
are pathlib's with coroutines for methods.
Rule: a call is made when its coroutine first runs, and takes no time but that of the device. Names
of the package that reach the real kernel are refused.
Left out: subclasses of the real classes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...kernel.uapi import O_DIRECT, O_TMPFILE
from .async_file import FileStatistics, disk_of, file_statistics, the_host, waited
from .binary_file import BinaryFile
from .dispatch import Dispatcher, Lookalike, Replacement, method
from .escape import escaped, refuse
from .file_objects import Opening, TextFile, open_async

if TYPE_CHECKING:
    from ..host import Host

NSEC = 1_000_000_000
OPEN_IT = "open the file by aiopoll.open"


async def on_device(operations: int = 0) -> None:
    """Wait for the loop, and for as many fsyncs of the device."""
    host = the_host()
    disk = disk_of(host)
    delays = [disk.media.draw_delay_ns("fsync", disk.root.root) for _ in range(operations)]
    await asyncio.sleep(sum(delays) / NSEC)


async def called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of os or pathlib within a coroutine."""
    await asyncio.sleep(0)
    with waited(the_host()):
        return function(*args, **kwargs)


class Path(pathlib.PurePosixPath):
    """aiopoll.Path of a host: pathlib.Path's methods as coroutines."""

    __slots__ = ()

    @property
    def _sync(self) -> pathlib.Path:
        return pathlib.Path(self)

    @classmethod
    async def cwd(cls) -> Any:
        """Return the current directory."""
        return cls(await called(os.getcwd))

    @classmethod
    async def home(cls) -> Any:
        """Return the user's home directory."""
        return cls(await called(pathlib.Path.home))

    async def rename(self, target: Any) -> Any:
        """Rename to `target`, and return it."""
        await called(os.rename, self, target)
        return type(self)(target)

    async def replace(self, target: Any) -> Any:
        """Rename to `target`: rename() by pathlib's other name."""
        return await self.rename(target)

    async def samefile(self, other: Any) -> bool:
        """Return whether both paths lead to one file."""
        return bool(await called(os.path.samefile, self, other))

    async def iterdir(self) -> AsyncIterator[Any]:
        """Yield the paths in this directory."""
        for name in await called(os.listdir, self):
            yield self / name

    async def glob(self, pattern: str) -> AsyncIterator[Any]:
        """Yield the paths below this one that match."""
        for path in await called(lambda: list(self._sync.glob(pattern))):
            yield type(self)(path)

    async def rglob(self, pattern: str) -> AsyncIterator[Any]:
        """Yield the matches in this directory and all below it."""
        for path in await called(lambda: list(self._sync.rglob(pattern))):
            yield type(self)(path)

    async def walk(
        self, top_down: bool = True, follow_symlinks: bool = False
    ) -> AsyncIterator[Any]:
        """Yield for each directory from here on: its path, its directories, its files."""
        found = await called(
            lambda: list(os.walk(str(self), topdown=top_down, followlinks=follow_symlinks))
        )
        for path, directories, files in found:
            yield type(self)(path), directories, files

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> Opening:
        """Call aiopoll.open() for this path."""
        return open_async(the_host(), self, mode, *args, **kwargs)

    async def read_bytes(self) -> Any:
        """Return the contents."""
        return await called(self._sync.read_bytes)

    async def write_bytes(self, data: Any) -> int:
        """Replace the contents; returns the number of bytes."""
        return int(await called(self._sync.write_bytes, data))

    async def write_atomic(self, data: Any, *, mode: int | None = None) -> None:
        """Call aiopoll.write_atomic() for this path."""
        await write_atomic(the_host(), self, data, mode=mode)


def _method(name: str) -> Callable[..., Any]:
    async def method(self: Path, *args: Any, **kwargs: Any) -> Any:
        result = await called(getattr(self._sync, name), *args, **kwargs)
        return type(self)(result) if isinstance(result, pathlib.PurePath) else result

    method.__name__ = name
    method.__doc__ = f"Call pathlib.Path.{name}()."
    return method


for _name in (
    *("absolute", "resolve", "expanduser", "readlink", "stat", "lstat", "exists", "is_dir"),
    *("is_file", "is_symlink", "is_mount", "is_fifo", "is_socket", "is_block_device", "owner"),
    *("is_char_device", "group", "mkdir", "rmdir", "unlink", "touch", "chmod", "symlink_to"),
    *("hardlink_to", "read_text", "write_text"),
):
    setattr(Path, _name, _method(_name))


# Calls on whole files


async def read_bytes(host: Host, path: Any) -> Any:
    return await called(pathlib.Path(path).read_bytes)


async def write_bytes(host: Host, path: Any, data: Any) -> int:
    return int(await called(pathlib.Path(path).write_bytes, data))


async def copyfile(host: Host, source: Any, target: Any) -> int:
    await called(shutil.copyfile, source, target)
    return os.stat(target).st_size


async def write_atomic(host: Host, path: Any, data: Any, *, mode: int | None = None) -> None:
    """Write another file, bring it to the device, rename it, and bring the name there too."""
    target = os.path.realpath(path)
    directory = os.path.dirname(target)
    if mode is None and os.path.exists(target):
        mode = os.stat(target).st_mode & 0o7777
    temporary = os.path.join(directory, f".{os.urandom(8).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    fd = os.open(temporary, flags, 0o666 if mode is None else 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if mode is not None:
                os.fchmod(fd, mode)
            await on_device(1)
            with waited(host):
                os.fsync(fd)
        os.rename(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    await on_device(1)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with waited(host):
            os.fsync(fd)
    finally:
        os.close(fd)


def scandir(host: Host, path: Any = ".") -> AsyncIterator[Any]:
    async def entries() -> AsyncIterator[Any]:
        for entry in await called(lambda: list(os.scandir(path))):
            yield entry

    return entries()


def temporary_file(
    host: Host, mode: str = "w+b", buffering: int = -1, *args: Any, **kwargs: Any
) -> Opening:
    """aiopoll.TemporaryFile(): a file without a name."""
    names = ("encoding", "newline", "dir")
    options = {**dict(zip(names, args, strict=False)), **kwargs}
    directory = options.pop("dir", None) or tempfile.gettempdir()
    direct = options.pop("direct", False)

    def unnamed(path: Any, flags: int) -> int:
        return os.open(directory, O_TMPFILE | os.O_RDWR | (flags & O_DIRECT), 0o600)

    if direct:
        path = os.path.join(directory, f"tmp{os.urandom(8).hex()}")

        async def opening() -> Any:
            file = await open_async(host, path, mode.replace("w", "x"), buffering, direct=True)
            os.unlink(path)
            return file

        return Opening(opening())
    return open_async(host, "<temporary>", mode, buffering, opener=unnamed, **options)


@contextlib.asynccontextmanager
async def _named_temporary_file(
    host: Host,
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str = "",
    prefix: str = "tmp",
    dir: Any = None,
    *,
    errors: str | None = None,
    direct: bool = False,
    delete: bool = True,
) -> AsyncIterator[Any]:
    fd, path = tempfile.mkstemp(suffix, prefix, dir)
    os.close(fd)
    try:
        async with open_async(
            host, path, mode, buffering, encoding, errors, newline, direct=direct
        ) as file:
            yield file
    finally:
        if delete:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


@contextlib.asynccontextmanager
async def _temporary_directory(
    host: Host, suffix: str | None = None, prefix: str | None = None, dir: Any = None
) -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(suffix, prefix, dir) as name:
        yield name


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "open": open_async,
    "file_statistics": file_statistics,
    "read_bytes": read_bytes,
    "write_bytes": write_bytes,
    "write_atomic": write_atomic,
    "copyfile": copyfile,
    "scandir": scandir,
    "TemporaryFile": temporary_file,
    "NamedTemporaryFile": _named_temporary_file,
    "TemporaryDirectory": _temporary_directory,
    **{name: refuse(f"aiopoll.{name}", "use the loop that runs") for name in ("Context", "probe")},
    "wrap": refuse("aiopoll.wrap", OPEN_IT),
}
# Those of aiopoll.files.tempfile, which are tempfile's own in a thread.
TEMPORARY: dict[str, Callable[..., Any]] = {
    "TemporaryFile": temporary_file,
    **{
        name: refuse(f"aiopoll.files.tempfile.{name}", f"use aiopoll.{way_out}")
        for name, way_out in {
            "NamedTemporaryFile": "NamedTemporaryFile",
            "SpooledTemporaryFile": "TemporaryFile",
            "TemporaryDirectory": "TemporaryDirectory",
        }.items()
    },
}
CLASSES: dict[str, type] = {
    "BinaryFile": BinaryFile,
    "TextFile": TextFile,
    "Path": Path,
    "FileStatistics": FileStatistics,
}


def _missing(name: str) -> Callable[..., Any]:
    def outside(*args: Any, **kwargs: Any) -> Any:
        package = sys.modules[__name__.partition(".")[0]]
        return package.__getattr__(name)(*args, **kwargs)

    outside.__qualname__ = name
    return outside


def _function(name: str, simulated: Callable[..., Any]) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        if isinstance(original, type):
            return Lookalike(
                name,
                (),
                {"original": original, "kinds": (original,), "simulate": staticmethod(simulated)},
            )
        return Dispatcher(original if callable(original) else _missing(name), simulated)

    return make


def _class(own: type) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        if not isinstance(original, type) or own is FileStatistics:
            return own
        return _stand_in(own, original)

    return make


def _stand_in(own: type, original: type) -> Any:
    """Return a class that is `own` inside and `original` outside."""

    class StandIn(own, metaclass=Lookalike):  # type: ignore[misc]
        __slots__ = ()
        kinds = (original, own)
        simulate = None

    StandIn.original = original
    StandIn.__name__, StandIn.__qualname__ = own.__name__, own.__qualname__
    return StandIn


def _of_os(module: Any, name: str) -> Callable[[Any], Any]:
    """Return the `make` for a function of aiopoll.files.os: that of os, within a coroutine."""

    def simulated(host: Host, *args: Any, **kwargs: Any) -> Any:
        return called(getattr(module, name), *args, **kwargs)

    return lambda original: Dispatcher(original, simulated)


def _wrapped(host: Host, original: Any, self: Any) -> Any:
    raise escaped("a file of aiopoll.wrap, or aiopoll.stdin and its like", OPEN_IT)


def _of_files(loaded: dict[str, Any]) -> Iterable[Replacement]:
    """Yield the names of aiopoll.files and its modules, as far as they are imported."""
    package = f"{__name__.partition('.')[0]}.files"
    if (files := loaded.get(package)) is not None:
        for name in FUNCTIONS.keys() & vars(files).keys():
            yield files, name, _function(name, FUNCTIONS[name])
    for name, module in (("os", os), ("ospath", os.path)):
        if (ours := loaded.get(f"{package}.{name}")) is not None:
            for each in ours.__all__:
                if each not in ("path", "wrap"):
                    yield ours, each, _of_os(module, each)
            if name == "os":
                yield ours, "wrap", _function("wrap", _wrap_function)
    if (ours := loaded.get(f"{package}.tempfile")) is not None:
        for name, simulated in TEMPORARY.items():
            yield ours, name, _function(name, simulated)
    if (ours := loaded.get(f"{package}.wrapped")) is not None:
        yield ours.WrappedFile, "_one_by_one", method(_wrapped)


def _wrap_function(host: Host, function: Callable[..., Any]) -> Callable[..., Any]:
    """aiopoll.files.os.wrap()."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        return await called(function, *args, **kwargs)

    return call


def late() -> Iterable[Replacement]:
    """Yield the names of the package, as far as it has imported them by now."""
    package = sys.modules[__name__.partition(".")[0]]
    for name, simulated in FUNCTIONS.items():
        yield package, name, _function(name, simulated)
    for name, own in CLASSES.items():
        yield package, name, _class(own)
    yield from _of_files(dict(sys.modules))


def replacements() -> Iterable[Replacement]:
    return ()
