"""aiopoll.open inside a world: its arguments, and aiopoll.TextFile of a host.

Rule: the arguments and their errors are aiopoll.open's. A text file is io.TextIOWrapper over the
binary file's own object.
Left out: the longer texts that some of its errors have.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

from .async_file import AsyncFile, FileStatistics
from .binary_file import BinaryFile
from .paths import checked

if TYPE_CHECKING:
    from ..host import Host


class TextFile(AsyncFile):
    """aiopoll.TextFile of a host."""

    def __init__(self, buffer: BinaryFile, text: io.TextIOWrapper) -> None:
        self.buffer = buffer
        self._io = text
        self._lock = asyncio.Lock()
        self._host = buffer._host
        self._detached = False
        self.streaming: bool = buffer.streaming
        self.name: Any = buffer.name

    def __repr__(self) -> str:
        return f"<aiopoll.TextFile name={self.name!r} encoding={self.encoding!r}>"

    @property
    def closed(self) -> bool:
        return self._detached or self.buffer.closed

    @property
    def encoding(self) -> str:
        return str(self._io.encoding)

    @property
    def errors(self) -> str | None:
        found: str | None = self._io.errors
        return found

    @property
    def newlines(self) -> Any:
        return self._io.newlines

    @property
    def line_buffering(self) -> bool:
        return bool(self._io.line_buffering)

    @property
    def write_through(self) -> bool:
        return bool(self._io.write_through)

    async def reconfigure(self, **options: Any) -> None:
        """Write what is buffered, and change the format."""
        async with self._lock:
            self._io.reconfigure(**options)

    async def detach(self) -> BinaryFile:
        """Write what is buffered; returns the file below."""
        async with self._lock:
            self._io.flush()
            self._io.detach()
            self._detached = True
        return self.buffer

    def statistics(self) -> FileStatistics:
        """Return the counters of the file below."""
        return self.buffer.statistics()

    async def fsync(self) -> None:
        """Write what is buffered, and bring it to the device."""
        await self.flush()
        await self.buffer.fsync()

    async def datasync(self) -> None:
        """As fsync, without metadata that is not needed."""
        await self.flush()
        await self.buffer.datasync()

    async def close(self) -> None:
        """Write what is buffered, and close the file."""
        if self._detached:
            raise ValueError("the file underneath has been detached")
        try:
            if not self.closed:
                await self.flush()
                self._io.detach()
        finally:
            await self.buffer.close()


class Opening(Coroutine[Any, Any, Any]):
    """What aiopoll.open() returns: await it, or enter it with `async with`."""

    def __init__(self, opening: Coroutine[Any, Any, Any]) -> None:
        self._opening = opening
        self._file: Any = None

    def __await__(self) -> Generator[Any, None, Any]:
        return self._opening.__await__()

    def send(self, value: Any, /) -> Any:
        """Start or resume the coroutine."""
        return self._opening.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception where the coroutine waits."""
        return self._opening.throw(*error)

    def close(self) -> None:
        """End the coroutine where it waits."""
        self._opening.close()

    async def __aenter__(self) -> Any:
        self._file = await self
        return self._file

    async def __aexit__(self, *error: object) -> None:
        if self._file is not None:
            await self._file.close()


def open_async(
    host: Host,
    path: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
    *,
    direct: bool = False,
) -> Opening:
    """aiopoll.open(): see there for the arguments and their errors."""
    if not isinstance(mode, str):
        raise TypeError(f"mode must be a str, not {type(mode).__name__}")
    letters = set(mode)
    if letters - set("rwxab+t") or len(letters) != len(mode):
        raise ValueError(f"invalid mode: {mode!r}")
    if len(letters & set("rwxa")) != 1 or {"b", "t"} <= letters:
        raise ValueError(f"invalid mode: {mode!r}")
    if not isinstance(path, int):
        path = checked(path, "open")
        if not closefd:
            raise ValueError("Cannot use closefd=False with file name")
    elif path < 0:
        raise ValueError("negative file descriptor")
    elif direct:
        raise ValueError("direct=True needs a path: a descriptor is direct if it was opened so")
    binary = "b" in letters
    if binary and (encoding is not None or errors is not None or newline is not None):
        raise ValueError("binary mode doesn't take an encoding, errors or newline argument")
    if binary and buffering == 1:
        raise ValueError("line buffering needs a text mode")
    if not binary and (direct or buffering == 0):
        raise ValueError(
            "direct=True needs a binary mode" if direct else "can't have unbuffered text I/O"
        )
    raw_mode = mode.replace("t", "")
    raw_mode = raw_mode if binary else f"{raw_mode}b"

    async def opening() -> Any:
        await asyncio.sleep(0)
        size = buffering if binary else -1

        def make() -> BinaryFile:
            return BinaryFile(host, path, raw_mode, size, closefd, opener, direct)

        file = make()
        if binary:
            return file
        text = io.TextIOWrapper(file._io, encoding, errors, newline, line_buffering=buffering == 1)
        return TextFile(file, text)

    return Opening(opening())
