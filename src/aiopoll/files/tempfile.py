"""tempfile's files and directories with coroutines, as aiofiles.tempfile has them.

NamedTemporaryFile, SpooledTemporaryFile and TemporaryDirectory here are tempfile's own, made in a
thread: await them, or enter them with `async with`.  aiopoll.NamedTemporaryFile and
aiopoll.TemporaryDirectory, for `async with` alone, give files of aiopoll.open(), which are faster.
"""

import io
import tempfile
from collections.abc import Coroutine, Generator
from typing import Any, cast

from aiopoll.files.binary import read_into
from aiopoll.files.calls import AnyPath, in_thread, to_the_end
from aiopoll.files.opening import Opening
from aiopoll.files.standard import wrap
from aiopoll.files.temporary import TemporaryFile as TemporaryFile
from aiopoll.files.wrapped import WrappedFile
from aiopoll.files.wrapped_binary import WrappedBinaryFile
from aiopoll.files.wrapped_text import WrappedTextFile

__all__ = ["NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryDirectory", "TemporaryFile"]


def NamedTemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | bytes | None = None,
    prefix: str | bytes | None = None,
    dir: AnyPath | None = None,
    delete: bool = True,
    **options: Any,
) -> Opening[Any]:
    """Makes a tempfile.NamedTemporaryFile(); its wrapped file has `name`, and `delete`.

    options: errors, and delete_on_close from Python 3.12 on.
    """

    async def opening() -> Any:
        arguments: Any = (mode, buffering, encoding, newline, suffix, prefix, dir, delete)
        made = await made_whole(tempfile.NamedTemporaryFile, *arguments, **options)
        file: Any = wrap(made)
        file.delete = delete
        return file

    return Opening(opening())


async def made_whole(make: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls `make` in a thread; what it made for a caller that was cancelled is closed."""
    making = in_thread(make, *args, **kwargs)
    try:
        return await to_the_end(making)
    except BaseException:
        if making.done() and not making.cancelled() and making.exception() is None:
            made = making.result()
            await in_thread(made.cleanup if hasattr(made, "cleanup") else made.close)
        raise


class Spooled(WrappedFile[Any]):
    """What the two kinds of spooled files share."""

    async def _call(self, method: str, *args: Any) -> Any:
        spooled = self._file
        call = getattr(spooled, method)
        if spooled._rolled or not self._stays_in_memory(spooled, method, *args):
            # Not descriptor_of(): fileno() moves the contents to a file.
            return await self._run(lambda: call(*args), own_thread=False)
        return call(*args)

    def _stays_in_memory(self, spooled: Any, method: str, *args: Any) -> bool:
        if method == "write":
            # A character has four bytes at most.
            size = 4 * len(args[0]) if isinstance(args[0], str) else memoryview(args[0]).nbytes
            return not spooled._max_size or spooled._file.tell() + size <= spooled._max_size
        return method not in ("writelines", "rollover", "truncate", "close")

    async def rollover(self) -> None:
        """Moves the contents from memory to a file on disk."""
        await self._do("rollover")


class SpooledBinaryFile(Spooled, WrappedBinaryFile):
    """A tempfile.SpooledTemporaryFile in a binary mode: its methods as coroutines."""

    async def _read(self, method: str, size: int | None) -> bytes:
        return cast(bytes, await self._do(method, -1 if size is None else size))

    async def _into(self, method: str, read: Any, buffer: Any) -> int:
        return await read_into(read, buffer)

    async def _some(self, method: str, size: int) -> bytes:
        if not hasattr(self._file, method):
            raise io.UnsupportedOperation(f"a spooled file has no {method}()")
        return cast(bytes, await self._do(method, size))


class SpooledTextFile(Spooled, WrappedTextFile):
    """A tempfile.SpooledTemporaryFile in a text mode: its methods as coroutines."""

    async def _read(self, method: str, size: int | None) -> str:
        return cast(str, await self._do(method, -1 if size is None else size))


def SpooledTemporaryFile(
    max_size: int = 0,
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | None = None,
    prefix: str | None = None,
    dir: str | None = None,
    *,
    errors: str | None = None,
) -> Opening[Any]:
    """Makes a tempfile.SpooledTemporaryFile(): in memory, up to max_size bytes."""

    async def opening() -> Any:
        arguments: Any = (max_size, mode, buffering, encoding, newline, suffix, prefix, dir)
        made = await made_whole(tempfile.SpooledTemporaryFile, *arguments, errors=errors)
        return (SpooledBinaryFile if "b" in mode else SpooledTextFile)(lambda: made)

    return Opening(opening())


class AsyncTemporaryDirectory:
    """A tempfile.TemporaryDirectory: `name` is its path."""

    def __init__(self, directory: tempfile.TemporaryDirectory[Any]) -> None:
        self._directory = directory
        self.name: Any = directory.name

    async def cleanup(self) -> None:
        """Removes the directory with all its contents."""
        await in_thread(self._directory.cleanup)

    async def close(self) -> None:
        """Calls cleanup()."""
        await self.cleanup()


class DirectoryOpening:
    """The result of TemporaryDirectory(): await it, or enter it for the path."""

    def __init__(self, opening: Coroutine[Any, Any, AsyncTemporaryDirectory]) -> None:
        self._opening = Opening(opening)

    def __await__(self) -> Generator[Any, None, AsyncTemporaryDirectory]:
        return self._opening.__await__()

    async def __aenter__(self) -> Any:
        return (await self._opening.__aenter__()).name

    async def __aexit__(self, *error: object) -> None:
        await self._opening.__aexit__(*error)


def TemporaryDirectory(
    suffix: str | bytes | None = None,
    prefix: str | bytes | None = None,
    dir: AnyPath | None = None,
) -> DirectoryOpening:
    """Makes a tempfile.TemporaryDirectory(), which `async with` removes at its end."""

    async def opening() -> AsyncTemporaryDirectory:
        made = await made_whole(tempfile.TemporaryDirectory, suffix, prefix, dir)
        return AsyncTemporaryDirectory(made)

    return DirectoryOpening(opening())
