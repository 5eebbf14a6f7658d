"""aiopoll.wrap: the methods of a file that is open already, as coroutines.

Rule.  The object that was given does the work, one call after the other, in a thread of the files'
pool.  What lies in memory needs no thread.  A pipe, FIFO, socket or terminal is waited for by the
loop: see held.py.

Why.  Buffers and positions are the object's own, so that calls on it may follow, or come before.

Cost.  One hop a call, as aiofiles has it: a file that aiopoll.open() opens has fewer.
"""

import asyncio
import functools
import io
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from aiopoll.files.binary import lines_of
from aiopoll.files.calls import in_own_thread, in_thread
from aiopoll.files.held import NotReady, descriptor_of, fill, has_other_end, pipe_buffer
from aiopoll.files.readable import until_readable

D = TypeVar("D", str, bytes)
T = TypeVar("T")


def lies_in_memory(file: Any) -> bool:
    """Whether calls on an io object do no I/O."""
    under = getattr(file, "buffer", None) if isinstance(file, io.TextIOWrapper) else file
    return isinstance(under, (io.BytesIO, io.StringIO))


class WrappedFile(Generic[D]):
    """What WrappedTextFile and WrappedBinaryFile share: see aiopoll.wrap()."""

    _empty: D

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._doing: asyncio.Future[Any] | None = None
        # What a read that was cancelled had taken from a pipe, for the next one of the same file.
        self._kept: D = self._empty
        self._kept_of: int = 0  # its id()

    @property
    def _file(self) -> Any:
        return self._find()

    def __repr__(self) -> str:
        return f"<aiopoll.{type(self).__name__} of {self._file!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    # Properties

    @property
    def name(self) -> Any:
        """The name of the file that was given."""
        return self._file.name

    @property
    def mode(self) -> str:
        """The mode of the file that was given."""
        mode: str = self._file.mode
        return mode

    @property
    def closed(self) -> bool:
        """Whether the file is closed, through this object or not."""
        return bool(self._file.closed)

    def fileno(self) -> int:
        """Returns the descriptor.  Raises io.UnsupportedOperation where there is none."""
        return int(self._file.fileno())

    def readable(self) -> bool:
        """Whether the file is open for reading."""
        return bool(self._file.readable())

    def writable(self) -> bool:
        """Whether the file is open for writing."""
        return bool(self._file.writable())

    def seekable(self) -> bool:
        """Whether the file has positions."""
        return bool(self._file.seekable())

    def isatty(self) -> bool:
        """Whether the file is a terminal."""
        return bool(self._file.isatty())

    # Calls

    def _one_by_one(self) -> asyncio.Lock:
        """Returns the lock under which calls of the running loop go one after the other."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._lock, self._doing = loop, asyncio.Lock(), None
        if id(self._file) != self._kept_of:
            self._kept, self._kept_of = self._empty, id(self._file)
        return self._lock

    async def _wait_pending(self) -> None:
        """Waits for the call of a cancelled caller, if any."""
        if self._doing is not None:
            await asyncio.wait([self._doing])
            self._doing = None

    async def _run(self, function: Callable[[], T], own_thread: bool) -> T:
        """Calls `function` in a thread; a caller that is cancelled leaves it to the next one."""
        await self._wait_pending()
        doing = (in_own_thread if own_thread else in_thread)(function)
        self._doing = doing
        await asyncio.wait([doing])
        self._doing = None
        return doing.result()

    async def _call(self, method: str, *args: Any) -> Any:
        """Calls a method of the file, under the lock."""
        file = self._file
        function = functools.partial(getattr(file, method), *args)
        if lies_in_memory(file):
            return function()
        fd = descriptor_of(file)
        return await self._run(function, own_thread=fd is None or has_other_end(fd))

    async def _do(self, method: str, *args: Any) -> Any:
        async with self._one_by_one():
            return await self._call(method, *args)

    # Reading

    def _end_of_line(self, data: D) -> int:
        """Returns the size of the first line with its newline; 0 if it has none."""
        raise NotImplementedError

    async def _read_pipe(self, buffer: io.BufferedReader, size: int, line: bool) -> D:
        """Reads up to `size`, all if negative, or up to a newline if `line`.

        Cancelled or failing, it leaves what it has taken to the next read.
        """
        parts = [self._kept]
        known = len(self._kept)
        ended = line and self._end_of_line(self._kept) > 0
        self._kept = self._empty
        at_end = False
        try:
            await self._wait_pending()
            while not ended and (size < 0 or known < size):
                try:
                    part = self._take_held(buffer, size - known if size >= 0 else -1, line, at_end)
                except NotReady:
                    at_end = await self._fill(buffer)
                    continue
                parts.append(part)
                known += len(part)
                ended = not part or (line and self._end_of_line(part) > 0)
        except BaseException:
            self._kept = self._empty.join(parts)
            raise
        data = self._empty.join(parts)
        wanted = len(data) if size < 0 else min(size, len(data))
        if line:
            wanted = min(wanted, self._end_of_line(data) or wanted)
        self._kept = data[wanted:]
        return data[:wanted]

    async def _fill(self, buffer: io.BufferedReader) -> bool:
        """Waits for data of a pipe, and reads it into the buffer; returns whether it has ended."""
        raw: io.RawIOBase = buffer.raw  # type: ignore[assignment]
        await until_readable(raw.fileno())
        return await self._run(functools.partial(fill, buffer), own_thread=True) == b""

    def _take_held(self, buffer: io.BufferedReader, size: int, line: bool, at_end: bool) -> D:
        """Takes up to `size` from a pipe's buffers, no more than a line if `line`.

        Returns nothing at the end.  Raises NotReady if the buffers hold nothing.
        """
        raise NotImplementedError

    async def _read(self, method: str, size: int | None) -> D:
        limit = -1 if size is None else size
        async with self._one_by_one():
            if (buffer := pipe_buffer(self._file)) is not None:
                return await self._read_pipe(buffer, limit, line=method == "readline")
            found: D = await self._call(method, limit)
            return found

    async def read(self, size: int | None = -1, /) -> D:
        """Reads `size` bytes or characters, fewer only at the end; all the rest if negative."""
        return await self._read("read", size)

    async def readline(self, size: int | None = -1, /) -> D:
        """Reads a line with its newline, at most `size` of it unless that is negative."""
        return await self._read("readline", size)

    async def readlines(self, hint: int | None = -1, /) -> list[D]:
        """Returns the remaining lines; stops after `hint` bytes or characters, if positive."""
        return await lines_of(self, hint)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> D:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    # Writing, positions and the end

    async def flush(self) -> None:
        """Calls the file's flush()."""
        await self._do("flush")

    async def seek(self, offset: int, whence: int = 0, /) -> int:
        """Calls the file's seek()."""
        return int(await self._do("seek", offset, whence))

    async def tell(self) -> int:
        """Calls the file's tell()."""
        return int(await self._do("tell"))

    async def truncate(self, size: int | None = None, /) -> int:
        """Calls the file's truncate()."""
        return int(await self._do("truncate", size))

    async def close(self) -> None:
        """Closes the file that was given."""
        await self._do("close")

    async def detach(self) -> Any:
        """Calls the file's detach(): returns the object underneath, unwrapped."""
        return await self._do("detach")
