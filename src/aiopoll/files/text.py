"""TextFile: io.TextIOWrapper, worked in batches by a thread.

Facts.  What encodings, error handlers and newlines mean, and what tell() returns, is up to
io.TextIOWrapper, which reads and writes blocking files.  A thread's hop costs more than a
line.

Rule.  A TextIOWrapper over the same file does the work.  Lines are fetched many at once, and
returned without a hop; tell() goes back to where the batch began and counts the characters.
What is written is checked at once, gathered, and handed over in one call.  In a mode with "+" each
call is the wrapper's own: where a write goes after a readline() depends on what it has read ahead.
A call whose caller was cancelled is waited for by the next one, and the wrapper is closed after all
of them, come what may.

Why.  No line of it can differ from open().  A wrapper that is left open writes what it holds when
it is collected, and the descriptor's number may be another file's by then.

Cost.  A tell() among fetched lines decodes them again.  A pipe is read a line at a time.
"""

import asyncio
import codecs
import contextlib
import functools
import io
import os
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self, TypeVar

from aiopoll.files.binary import LINES_MAX, BinaryFile, lines_of
from aiopoll.files.statistics import FileStatistics

T = TypeVar("T")

BATCH = 64 << 10
"""Characters of lines fetched at once, and of text gathered before it is written."""


class BorrowedRaw(io.RawIOBase):
    """A pipe, socket or terminal that is somebody else's, for io's buffers."""

    def __init__(self, file: BinaryFile) -> None:
        self._file = file

    def fileno(self) -> int:
        """The descriptor that was given."""
        return self._file.fileno()

    def readable(self) -> bool:
        """Whether it is open for reading."""
        return self._file.readable()

    def writable(self) -> bool:
        """Whether it is open for writing."""
        return self._file.writable()

    def seekable(self) -> bool:
        """Whether it has positions."""
        return self._file.seekable()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._file.isatty()

    def readinto(self, buffer: Any) -> int | None:
        """One read(2); None where it would block."""
        with contextlib.suppress(BlockingIOError), self._file._descriptor() as fd:
            return os.readv(fd, [buffer])
        return None

    def write(self, data: Any) -> int | None:
        """One write(2); None where it would block."""
        with contextlib.suppress(BlockingIOError), self._file._descriptor() as fd:
            return os.write(fd, data)
        return None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """lseek(2)."""
        with self._file._descriptor() as fd:
            return os.lseek(fd, offset, whence)

    def truncate(self, size: int | None = None) -> int:
        """ftruncate(2)."""
        if size is None:
            size = self.tell()
        with self._file._descriptor() as fd:
            os.ftruncate(fd, size)
        return size


class TextFormat(NamedTuple):
    """The arguments of open() that make text of bytes."""

    mode: str
    buffering: int
    encoding: str | None
    errors: str | None
    newline: str | None

    def check(self) -> None:
        """Raises what io.TextIOWrapper raises for bad arguments."""
        io.TextIOWrapper(io.BytesIO(), *self[2:]).detach()

    def wrap(self, buffer: BinaryFile) -> io.TextIOWrapper:
        """Returns what open() makes of the file, which it does not close."""
        if not buffer.borrowed:
            mode = self.mode.replace("x", "w")  # of a descriptor neither creates nor truncates
            with buffer._descriptor() as fd:
                return open(fd, mode, *self[1:], closefd=False)  # type: ignore[return-value]
        raw = BorrowedRaw(buffer)
        layer: Any
        size = self.buffering if self.buffering > 1 else io.DEFAULT_BUFFER_SIZE
        if "+" in self.mode:
            layer = io.BufferedRandom(raw, size)
        else:
            layer = (io.BufferedReader if "r" in self.mode else io.BufferedWriter)(raw, size)
        return io.TextIOWrapper(layer, *self[2:], line_buffering=raw.isatty())


class TextFile:
    """A file open in a text mode: io.TextIOWrapper's methods as coroutines.

    They go one after the other.  buffer: the BinaryFile underneath, for positional I/O on
    bytes; what is gathered here it does not see: flush() before.
    """

    def __init__(self, buffer: BinaryFile, format: TextFormat) -> None:
        self.buffer = buffer
        self.mode = mode = format.mode
        self._wrapper = format.wrap(buffer)
        self._batches = "+" not in mode
        self._lines: deque[str] = deque()
        self._mark: int | None = None  # tell() before the first of the batch
        self._lines_read = 0
        self._handed = 0  # characters of the batch that were handed out
        self._unwritten: list[str] = []
        self._unwritten_size = 0
        self._doing: asyncio.Future[Any] | None = None
        self._closing = False
        self._lock = asyncio.Lock()
        self._encode = codecs.getencoder(self._wrapper.encoding)
        self._error: Exception | None = None  # what comes after the batch
        self._line_buffering = format.buffering == 1 or (format.buffering < 0 and buffer.isatty())

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return (
            f"<aiopoll.TextFile{state} name={self.name!r} mode={self.mode!r}"
            f" encoding={self.encoding!r}>"
        )

    def __del__(self) -> None:
        # Dropped without close(): as io does it, what was written is not lost.
        if hasattr(self, "_encode") and not self.closed:
            try:
                self._finish()
            except OSError:
                pass  # no caller is left to raise it to

    async def __aenter__(self) -> Self:
        self.fileno()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    # What it is

    @property
    def name(self) -> Any:
        """What was given to open()."""
        return self.buffer.name

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closing or self.buffer.closed

    @property
    def encoding(self) -> str:
        """The name of the encoding."""
        return self._wrapper.encoding

    @property
    def errors(self) -> str | None:
        """The error handler of the encoding."""
        return self._wrapper.errors

    @property
    def newlines(self) -> str | tuple[str, ...] | None:
        """The kinds of newlines that were met, at least up to the cursor."""
        return self._wrapper.newlines

    @property
    def line_buffering(self) -> bool:
        """Whether a write with a newline is handed to the kernel at once."""
        return self._line_buffering

    def fileno(self) -> int:
        """The descriptor; ValueError once the file is closed."""
        if self._closing:
            raise ValueError("I/O operation on closed file")
        return self.buffer.fileno()

    def readable(self) -> bool:
        """Whether the file is open for reading."""
        return self.buffer.readable()

    def writable(self) -> bool:
        """Whether the file is open for writing."""
        return self.buffer.writable()

    def seekable(self) -> bool:
        """Whether the file has positions: a pipe has none."""
        return self.buffer.seekable()

    def isatty(self) -> bool:
        """Whether the file is a terminal."""
        return self.buffer.isatty()

    def statistics(self) -> FileStatistics:
        """The counters of the file underneath."""
        return self.buffer.statistics()

    # The thread's part

    def _begin(self, function: Callable[[], Any]) -> None:
        """Has a thread call `function`, after the calls that were begun before."""
        call = functools.partial(self._named, function)
        self._doing = self.buffer._call(call, exclusive=True)

    async def _wait_pending(self) -> Any:
        """Returns the result of the last call, or raises its error, unless that was done before."""
        doing = self._doing
        if doing is None:
            return None
        await asyncio.wait([doing])
        if self._doing is doing:  # not what close() has begun meanwhile
            self._doing = None
        return doing.result()

    async def _do(self, function: Callable[[], T]) -> T:
        """Calls `function` in a thread, after what a cancelled caller has left behind."""
        await self._wait_pending()
        self._begin(function)
        result: T = await self._wait_pending()
        return result

    def _named(self, function: Callable[[], T]) -> T:
        try:
            return function()
        except OSError as error:
            if error.errno is not None and error.filename is None:
                raise type(error)(error.errno, error.strerror, self.name) from None
            raise

    def _fetch(self) -> None:
        """In a thread: reads lines ahead."""
        wrapper = self._wrapper
        seekable = self.buffer.seekable()
        self._mark = wrapper.tell() if seekable else None
        self._handed = size = 0
        try:
            while size < BATCH and (line := wrapper.readline()):
                self._lines.append(line)
                size += len(line)
                if not seekable:
                    break
        except Exception as error:
            if not self._lines:
                raise
            self._error = error

    def _go_back(self) -> int:
        """In a thread: brings the wrapper to the cursor, and returns its tell()."""
        wrapper = self._wrapper
        if self._lines and self._mark is not None:
            self._forget()
            wrapper.seek(self._mark)
            wrapper.read(self._handed)
        return wrapper.tell()

    def _forget(self) -> None:
        """Drops the lines that were read ahead."""
        self._lines.clear()
        self._error = None

    # Reading

    def _check_readable(self) -> None:
        if not self.readable():
            raise io.UnsupportedOperation("not readable")

    def _hand(self, size: int) -> str:
        """The next line, or up to `size` characters of it if that is not negative."""
        line = self._lines.popleft()
        if 0 <= size < len(line):
            self._lines.appendleft(line[size:])
            line = line[:size]
        self._handed += len(line)
        return line

    async def read(self, size: int | None = -1, /) -> str:
        """Reads `size` characters, fewer only at the end; all that is left if negative."""
        self._check_readable()
        async with self._lock:
            await self._flush()
            left = -1 if size is None or size < 0 else size
            parts = []
            while self._lines and left != 0:
                parts.append(self._hand(left))
                if left > 0:
                    left -= len(parts[-1])
            self._raise_late()
            if left != 0:
                parts.append(await self._do(functools.partial(self._wrapper.read, left)))
            return "".join(parts)

    def _raise_late(self) -> None:
        if self._error is not None and not self._lines:
            error, self._error = self._error, None
            raise error

    async def readline(self, size: int | None = -1, /) -> str:
        """Reads up to and with the next newline; "" at the end of the file."""
        self._check_readable()
        async with self._lock:
            await self._flush()
            if not self._batches:
                limit = -1 if size is None else size
                return await self._do(functools.partial(self._wrapper.readline, limit))
            if size == 0:
                return ""
            if not self._lines:
                self._raise_late()
                await self._do(self._fetch)
            return self._hand(-1 if size is None else size) if self._lines else ""

    async def readlines(self, hint: int | None = -1, /) -> list[str]:
        """The lines that are left; no more after `hint` characters, if it is positive."""
        return await lines_of(self, hint)

    def __aiter__(self) -> Self:
        self._check_readable()
        return self

    async def __anext__(self) -> str:
        self._lines_read += 1
        if self._lines_read % LINES_MAX == 0:
            await asyncio.sleep(0)
        if self._lines and not (self._unwritten or self._doing or self._lock.locked()):
            self.fileno()
            return self._hand(-1)
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    # Writing

    async def write(self, text: str, /) -> int:
        """Writes `text`, into the buffer first; returns the number of its characters.

        UnicodeEncodeError comes at once.
        """
        if not self.writable():
            raise io.UnsupportedOperation("not writable")
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._encode(text, self._wrapper.errors or "strict")
        async with self._lock:
            await self._wait_pending()
            self.fileno()  # it may have been closed meanwhile
            if not self._batches:
                return await self._do(functools.partial(self._wrapper.write, text))
            self._forget()
            self._unwritten.append(text)
            self._unwritten_size += len(text)
            if self._line_buffering and ("\n" in text or "\r" in text):
                await self._flush(through=True)
            elif self._unwritten_size >= BATCH:
                await self._flush()
            return len(text)

    async def writelines(self, lines: Iterable[str], /) -> None:
        """Writes each of `lines`, which bring their own newlines."""
        for line in lines:
            await self.write(line)

    async def _flush(self, through: bool = False) -> None:
        """Hands what was gathered to the wrapper, and from there `through` to the kernel.

        After this no thread is at work on the wrapper.
        """
        await self._wait_pending()
        if self._unwritten or through:
            # An empty write counts: it may bring a byte order mark.
            text = "".join(self._unwritten) if self._unwritten else None
            # In a file that is read too, what is read next is what comes after this.
            through = through or self.readable()
            self._unwritten.clear()
            self._unwritten_size = 0
            await self._do(functools.partial(self._write_text, text, through))

    def _write_text(self, text: str | None, through: bool) -> None:
        if text is not None:
            self._wrapper.write(text)
        if through:
            self._wrapper.flush()
            self._note_end(self.buffer.append_offset)

    def _note_end(self, least: int) -> None:
        """In a thread: notes the end of the file where the wrapper has brought it."""
        with self.buffer._descriptor() as fd:
            self.buffer.append_offset = max(os.fstat(fd).st_size, least)

    async def flush(self) -> None:
        """Hands what is buffered to the kernel; fsync() brings it to the device."""
        self.fileno()
        async with self._lock:
            if self.writable():
                await self._flush(through=True)

    async def fsync(self) -> None:
        """Brings what was handed to the kernel to the device: flush() before."""
        await self.buffer.fsync()

    async def datasync(self) -> None:
        """Like fsync, without metadata that reading does not need."""
        await self.buffer.datasync()

    # The cursor

    async def tell(self) -> int:
        """The position of the cursor, a number for seek()."""
        self.fileno()
        async with self._lock:
            await self._flush()
            return await self._do(self._go_back)

    async def seek(self, cookie: int, whence: int = 0, /) -> int:
        """Moves the cursor to what tell() has returned; whence as in io.TextIOBase.seek."""
        self.fileno()
        async with self._lock:
            await self._flush()
            return await self._do(functools.partial(self._seek, cookie, whence))

    def _seek(self, cookie: int, whence: int) -> int:
        if whence == 1:
            self._go_back()
        self._forget()
        return self._wrapper.seek(cookie, whence)

    async def truncate(self, size: int | None = None, /) -> int:
        """Cuts or extends the file to `size` bytes, the cursor's position if None."""
        self.fileno()
        async with self._lock:
            await self._flush()
            return await self._do(functools.partial(self._truncate, size))

    def _truncate(self, size: int | None) -> int:
        self._go_back()
        end = self._wrapper.truncate(size)
        self._note_end(0)
        return end

    async def close(self) -> None:
        """Writes what is buffered, waits for all that is under way, and closes.

        No fsync.  Closing again does nothing.  The file is closed even if this raises, or is
        cancelled.
        """
        try:
            if not self.closed:
                async with self._lock:
                    await self._wait_pending()
        finally:
            try:
                if not self.closed:
                    self._closing = True
                    try:
                        self._begin(self._finish)
                    except RuntimeError:
                        self._finish()  # the loop is closed: no thread is at work
                await self._wait_pending()
            finally:
                await self.buffer.close()

    def _finish(self) -> None:
        """In a thread, at last: writes what is left, and closes the wrapper."""
        try:
            self._write_text("".join(self._unwritten) if self._unwritten else None, through=False)
        finally:
            self._wrapper.close()
