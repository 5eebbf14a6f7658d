"""TextFile: io.TextIOWrapper, which a thread calls in batches.

Facts.  io.TextIOWrapper decides the meaning of encodings, error handlers, newlines and positions.
It reads and writes blocking files.  A hop to a thread costs more than a line.

Rule.  A TextIOWrapper over the same file does the work.  Lines are fetched many at once, and
returned without a hop.  The position is found from the beginning of the batch, by its characters.
Text to write is checked at once, gathered, and passed on in one call.  In a mode with "+" each
call is the wrapper's own: the place of a write after a readline() depends on its read-ahead.
If a caller is cancelled, the next call waits for its call.  The wrapper is closed after all calls,
even if they fail.

Why.  No line of text can differ from open()'s.  A wrapper that is left open writes its buffer when
it is collected.  By then the descriptor's number may be another file's.

Cost.  To find the position among fetched lines they are decoded again.  A pipe is read one line at
a time.
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
"""The number of characters fetched at once, or gathered before they are written."""


OFFSET_MASK = (1 << 64) - 1
"""The part of a TextIOWrapper's position that is the file's."""


class BorrowedRaw(io.RawIOBase):
    """A borrowed pipe, socket or terminal, as a raw file for io's buffers."""

    def __init__(self, file: BinaryFile) -> None:
        self._file = file

    def fileno(self) -> int:
        """Returns the descriptor that was passed to open()."""
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
        """Calls read(2) once; returns None where it would block."""
        with contextlib.suppress(BlockingIOError), self._file._descriptor() as fd:
            return os.readv(fd, [buffer])
        return None

    def write(self, data: Any) -> int | None:
        """Calls write(2) once; returns None where it would block."""
        with contextlib.suppress(BlockingIOError), self._file._descriptor() as fd:
            return os.write(fd, data)
        return None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Calls lseek(2)."""
        with self._file._descriptor() as fd:
            return os.lseek(fd, offset, whence)

    def truncate(self, size: int | None = None) -> int:
        """Calls ftruncate(2)."""
        if size is None:
            size = self.tell()
        with self._file._descriptor() as fd:
            os.ftruncate(fd, size)
        return size


class TextFormat(NamedTuple):
    """The arguments of open() for the text layer."""

    mode: str
    buffering: int
    encoding: str | None
    errors: str | None
    newline: str | None

    def check(self) -> None:
        """Raises what io.TextIOWrapper raises for bad arguments."""
        io.TextIOWrapper(io.BytesIO(), *self[2:]).detach()

    def wrap(self, buffer: BinaryFile) -> io.TextIOWrapper:
        """Returns the wrapper that open() makes for the file; it does not close the file."""
        if not buffer.borrowed:
            mode = self.mode.replace("x", "w")  # "w" on a descriptor neither creates nor truncates
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

    They run one after the other.  buffer: the BinaryFile underneath, for positional I/O on bytes.
    It does not see the text that is gathered here: call flush() before.
    Methods raise ValueError once the file is closed, and io.UnsupportedOperation where the mode
    does not allow the call.  Else they raise the OSError of the system call.
    Source: io.TextIOWrapper.
    """

    def __init__(self, buffer: BinaryFile, format: TextFormat) -> None:
        self.buffer = buffer
        self.mode: str = format.mode
        self._wrapper = format.wrap(buffer)
        self._batches = "+" not in self.mode
        self._lines: deque[str] = deque()
        self._mark: int | None = None  # the position of the batch's first line
        self._lines_read = 0
        self._handed = 0  # characters of the batch that were returned
        self._unwritten: list[str] = []
        self._unwritten_size = 0
        self._doing: asyncio.Future[Any] | None = None
        self._closing = self._detached = False
        self._lock = asyncio.Lock()
        self._encode = codecs.getencoder(self._wrapper.encoding)
        self._error: Exception | None = None  # raised after the batch
        self._line_buffering = format.buffering == 1 or (format.buffering < 0 and buffer.isatty())

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return (
            f"<aiopoll.TextFile{state} name={self.name!r} mode={self.mode!r}"
            f" encoding={self.encoding!r}>"
        )

    def __del__(self) -> None:
        # Dropped without close(): as in io, the text that write() took is not lost.
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

    # Properties

    @property
    def name(self) -> Any:
        """The path or descriptor that was passed to open()."""
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
        """The kinds of newlines read so far, at least up to the cursor."""
        return self._wrapper.newlines

    @property
    def line_buffering(self) -> bool:
        """Whether a write with a newline goes to the kernel at once."""
        return self._line_buffering

    @property
    def write_through(self) -> bool:
        """Whether no text is gathered before it goes to the buffer underneath."""
        return self._wrapper.write_through

    async def reconfigure(self, **options: Any) -> None:
        """Writes the gathered text, and changes the format: io.TextIOWrapper.reconfigure().

        options: encoding, errors, newline, line_buffering, write_through.  Raises
        io.UnsupportedOperation if one of the first three comes after reading began.
        """
        self.fileno()
        async with self._lock:
            await self._flush(through=self.writable())
            if self._lines:
                await self._do(self._go_back)
            await self._do(functools.partial(self._wrapper.reconfigure, **options))
            self._encode = codecs.getencoder(self._wrapper.encoding)
            if options.get("line_buffering") is not None:
                self._line_buffering = bool(options["line_buffering"])

    def fileno(self) -> int:
        """Returns the descriptor.  Raises ValueError once the file is closed."""
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
        """Returns the counters of the file underneath."""
        return self.buffer.statistics()

    # Calls in the thread

    def _begin(self, function: Callable[[], Any]) -> None:
        """Has a thread call `function`, after the calls that were begun before."""
        call = functools.partial(self._named, function)
        self._doing = self.buffer._call(call, exclusive=True)

    async def _wait_pending(self) -> Any:
        """Returns the last call's result, or raises its error; None if that was done before."""
        doing = self._doing
        if doing is None:
            return None
        await asyncio.wait([doing])
        if self._doing is doing:  # unless close() has begun another call meanwhile
            self._doing = None
        return doing.result()

    async def _do(self, function: Callable[[], T]) -> T:
        """Calls `function` in a thread, after the call of a cancelled caller, if any."""
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
        """In a thread: moves the wrapper to the cursor; returns its position."""
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
        """Returns the next line, or up to `size` characters of it unless that is negative."""
        line = self._lines.popleft()
        if 0 <= size < len(line):
            self._lines.appendleft(line[size:])
            line = line[:size]
        self._handed += len(line)
        return line

    async def read(self, size: int | None = -1, /) -> str:
        """Reads and returns `size` characters: fewer only at the end, all the rest if negative."""
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
        """Reads a line with its newline, at most `size` characters unless that is negative.

        Returns "" at the end of the file.
        """
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
        """Returns the remaining lines; stops after `hint` characters, if that is positive."""
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
        """Writes `text`, into the buffer first; returns the number of characters.

        Raises UnicodeEncodeError at once.
        """
        if not self.writable():
            raise io.UnsupportedOperation("not writable")
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._encode(text, self._wrapper.errors or "strict")
        async with self._lock:
            await self._wait_pending()
            self.fileno()  # another task may have closed the file meanwhile
            if not self._batches:
                return await self._do(functools.partial(self._wrapper.write, text))
            self._forget()
            self._unwritten.append(text)
            self._unwritten_size += len(text)
            if self._line_buffering and ("\n" in text or "\r" in text):
                await self._flush(through=True)
            elif self._unwritten_size >= BATCH or self._wrapper.write_through:
                await self._flush()
            return len(text)

    async def writelines(self, lines: Iterable[str], /) -> None:
        """Writes each of `lines`; adds no newlines."""
        for line in lines:
            await self.write(line)

    async def _flush(self, through: bool = False) -> None:
        """Passes the gathered text to the wrapper, and if `through` from there to the kernel.

        After this no thread uses the wrapper.
        """
        await self._wait_pending()
        if self._unwritten or through:
            # An empty write counts: it may write a byte order mark.
            text = "".join(self._unwritten) if self._unwritten else None
            # A file that is also read must read on after this text.
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
        """In a thread: notes the end of the file after the wrapper's writes."""
        with self.buffer._descriptor() as fd:
            self.buffer.append_offset = max(os.fstat(fd).st_size, least)

    async def flush(self) -> None:
        """Writes the buffered text to the kernel; fsync() brings it to the device."""
        self.fileno()
        async with self._lock:
            if self.writable():
                await self._flush(through=True)

    async def fsync(self) -> None:
        """Brings the data in the kernel to the device: call flush() before.  See fsync(2)."""
        await self.buffer.fsync()

    async def datasync(self) -> None:
        """Like fsync(), without metadata that reading does not need.  See fdatasync(2)."""
        await self.buffer.datasync()

    # The cursor

    async def tell(self) -> int:
        """Returns the position of the cursor, an opaque number for seek()."""
        self.fileno()
        async with self._lock:
            await self._flush()
            return await self._do(self._go_back)

    async def seek(self, cookie: int, whence: int = 0, /) -> int:
        """Moves the cursor to a position of this file; whence as in io.TextIOBase.seek."""
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
        """Cuts or extends the file to `size` bytes, the cursor's position if None; returns it."""
        self.fileno()
        async with self._lock:
            await self._flush()
            return await self._do(functools.partial(self._truncate, size))

    def _truncate(self, size: int | None) -> int:
        self._go_back()
        end = self._wrapper.truncate(size)
        self._note_end(0)
        return end

    async def detach(self) -> BinaryFile:
        """Writes the buffered text; returns the file underneath, its cursor where ours is.

        Later calls raise ValueError, close() too.
        """
        self.fileno()
        async with self._lock:
            await self._flush(through=self.writable())
            position = await self._do(self._go_back) if self.buffer.seekable() else None
            await self._do(self._detach_wrapper)
            self._detached = self._closing = True
            if position is not None:
                # The upper bits are the decoder's state, which no binary file has.
                await self.buffer.seek(position & OFFSET_MASK)
        return self.buffer

    def _detach_wrapper(self) -> None:
        """In a thread: takes the wrapper off, and its own descriptor object with it."""
        self._wrapper.detach().close()

    async def close(self) -> None:
        """Writes the buffered text, waits for all I/O under way, and closes the file.

        Does not fsync.  Closing again does nothing.  The file is closed even if this raises, or
        is cancelled.  Raises ValueError after detach().
        """
        if self._detached:
            raise ValueError("the file underneath has been detached")
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
        """In a thread, at the end: writes the rest, and closes the wrapper."""
        try:
            self._write_text("".join(self._unwritten) if self._unwritten else None, through=False)
        finally:
            self._wrapper.close()
