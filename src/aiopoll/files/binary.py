"""BinaryFile: a file with a cursor, on top of positional I/O."""

import asyncio
import contextlib
import errno
import fcntl
import functools
import io
import operator
import os
import stat
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, AnyStr, Self

from aiopoll.files.readable import wait_readable
from aiopoll.files.stream_file import StreamFile

if TYPE_CHECKING:
    from typing_extensions import Buffer

BUFFER_SIZE = 64 << 10
"""Bytes read ahead, or gathered before they are written, where `buffering` sets no size."""
LINES_MAX = 512
"""Lines returned one after the other before other tasks run."""
READ_MAX = 16 << 20
"""The largest request of a read to the end, in bytes."""


class BinaryFile(StreamFile):
    """A file open in a binary mode: io.BufferedRandom's methods as coroutines, and positional I/O.

    The cursor belongs to read, readline, write, seek and so on, which run one after the other.
    Positional calls do not see the bytes that those methods buffer: call flush() before, or use
    one kind only.  A write through this object drops the bytes that were read ahead.

    A cancelled read leaves the cursor where it was.  A write that is cancelled while it runs goes
    on; the next call raises its error, at the latest close().

    A `streaming` file (a pipe, a device, a file of proc or sysfs) has the kernel's own cursor.
    There read(2), write(2) and lseek(2) decide what happens, as under open().

    Methods raise ValueError once the file is closed, and io.UnsupportedOperation where the mode
    or the file does not allow the call.  Else they raise the OSError of the system call.
    Source: io.BufferedIOBase.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        name: object = None,
        *,
        closefd: bool = True,
        mode: str = "rb",
        buffering: int = -1,
        appending: bool = False,
    ) -> None:
        if buffering < -1:
            raise ValueError("invalid buffering size")
        super().__init__(loop, fd, name, closefd=closefd)
        try:
            self.mode = mode
            self._detached = False
            self._readable = "r" in mode or "+" in mode
            self._writable = "r" not in mode or "+" in mode
            # Whatever the mode is: with O_APPEND on the descriptor the kernel writes to the end.
            with self._descriptor() as own:
                self._appending = appending or bool(fcntl.fcntl(own, fcntl.F_GETFL) & os.O_APPEND)
                anonymous = stat.S_IFMT(os.fstat(own).st_mode) == 0
            position = self._first_position(appending)
            self._seekable = position >= 0
            self._position = max(position, 0)
            if buffering >= 0:
                self._buffer_size = buffering
            elif self.streaming and self._seekable:
                self._buffer_size = self._block_size()  # as in open(): each read(2) may matter
            else:
                self._buffer_size = BUFFER_SIZE
            # Data that another process waits for is written at once, and whole.  An eventfd or a
            # timerfd has no positions under Linux 5.10, and no other end either.
            self._at_once = not (self._seekable or anonymous)
            # Whether write() gathers.
            self._gathers = not self._at_once and self._buffer_size > 0
            # The bytes read ahead: _ahead[_taken:] are those at _position.
            self._ahead = b""
            self._taken = 0
            self._ahead_writes = 0
            # The bytes before the cursor that are still to be written.
            self._unwritten = bytearray()
            self._writing: asyncio.Future[Any] | None = None
            # A read(2) of a pipe under way: its bytes cannot be read again.
            self._reading: asyncio.Future[bytes] | None = None
            self._lock = asyncio.Lock()
            self._lines_read = 0
        except BaseException:
            self._give_up()
            raise

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<aiopoll.BinaryFile{state} name={self.name!r} mode={self.mode!r}>"

    def __del__(
        self,
        # The interpreter may have emptied this module by then.
        _write: Callable[..., int] = os.write,
        _pwrite: Callable[..., int] = os.pwrite,
    ) -> None:
        # Dropped without close(): as in io, the data that write() took is not lost.
        unwritten = getattr(self, "_unwritten", None)
        if unwritten and not self.closed:
            try:
                if not self.direct:
                    start = self._position - len(unwritten)
                    end = self.append_offset  # where O_APPEND puts it in any case
                    fd = self._enter()
                    try:
                        if self.streaming:
                            _write(fd, unwritten)
                        else:
                            _pwrite(fd, unwritten, end if self._appending else start)
                    finally:
                        self._leave(fd)
            except OSError:
                pass  # no caller is left to raise it to
        super().__del__()

    async def __aenter__(self) -> Self:
        self.fileno()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def readable(self) -> bool:
        """Whether the file is open for reading."""
        return (super().readable() or self.streaming) and self._readable

    def writable(self) -> bool:
        """Whether the file is open for writing."""
        return (super().writable() or self.streaming) and self._writable

    def seekable(self) -> bool:
        """Whether the file has positions: a pipe has none."""
        self.fileno()
        return self._seekable

    def isatty(self) -> bool:
        """Whether the file is a terminal."""
        self.fileno()
        with contextlib.suppress(OSError), self._descriptor() as fd:
            return os.isatty(fd)
        return False

    # Reading

    def _check_readable(self) -> None:
        if not self.readable():
            raise io.UnsupportedOperation("not readable")

    def _check_writable(self) -> None:
        if not self.writable():
            raise io.UnsupportedOperation("not writable")

    def _drop_ahead(self) -> None:
        self._ahead = b""
        self._taken = 0
        self._ahead_writes = self.writes

    def _available(self) -> int:
        """Returns the number of bytes that were read ahead of the cursor."""
        if self._ahead_writes != self.writes and not self.streaming:
            self._drop_ahead()
        return len(self._ahead) - self._taken

    def _take(self, size: int) -> bytes:
        """Returns up to `size` of the bytes read ahead, and moves the cursor."""
        data = self._ahead[self._taken : self._taken + size]
        self._taken += len(data)
        self._position += len(data)
        return data

    async def _read_raw(self, size: int) -> bytes:
        """Reads the bytes after those read ahead; fewer than `size` at the end, or in a pipe."""
        if not self.streaming:
            return await self.pread(size, self._position + self._available())
        return await self._from_stream(size)

    async def _from_stream(self, size: int) -> bytes:
        """Returns the result of read(2), of the size that a cancelled call asked for if one did."""
        if self._reading is None:
            if size and not self._fails_at_once():
                await wait_readable(self)
            self._reading = self._call(functools.partial(self._read_once, size))
        reading = self._reading
        await asyncio.wait([reading])
        self._reading = None
        return reading.result()

    async def _read_late(self) -> int:
        """Returns how far the kernel's cursor is ahead of ours, with a cancelled call's read(2)."""
        if self._reading is not None:
            rest = self._ahead[self._taken :]
            self._ahead, self._taken = rest + await self._from_stream(0), 0
        return self._available()

    def _fails_at_once(self) -> bool:
        """Whether read(2) fails at once, so that no data need be waited for."""
        with contextlib.suppress(OSError), self._descriptor() as fd:
            os.readv(fd, [])  # reads no byte
            return False
        return True

    async def _fill(self, size: int | None = None) -> bool:
        """Reads a buffer's worth, or up to `size` bytes; returns whether any byte came."""
        rest = self._ahead[self._taken :] if self._available() else b""
        data = await self._read_raw(max(self._buffer_size, 1) if size is None else size)
        self._ahead = rest + data if rest else data
        self._taken = 0
        self._ahead_writes = self.writes
        return bool(data)

    async def read(self, size: int | None = -1, /) -> bytes:
        """Reads and returns `size` bytes: fewer only at the end, all the rest if negative."""
        self._check_readable()
        async with self._lock:
            await self._flush()
            if size is None or size < 0:
                return await self._read_all()
            return await self._read(size)

    async def _read(self, size: int) -> bytes:
        if self.streaming and not self._buffer_size:
            if not self._available():
                await self._fill(size)  # one read(2)
            return self._take(size)
        while (known := self._available()) < size:
            if size - known >= self._buffer_size:
                data = await self._read_raw(size - known)
                joined = self._ahead[self._taken :] + data if known else data
                if not self.streaming:
                    self._position += len(joined)
                    self._drop_ahead()
                    return joined
                self._ahead, self._taken = joined, 0
                if not data:
                    break
            elif not await self._fill():
                break
        return self._take(size)

    async def _read_all(self) -> bytes:
        known = self._available()
        parts = [self._ahead[self._taken :]] if known else []
        size = BUFFER_SIZE
        end = self._position + known
        try:
            while True:
                if self.streaming:
                    part = await self._from_stream(size)
                else:
                    part = await self.pread(size, end)
                parts.append(part)
                end += len(part)
                if not part if self.streaming else len(part) < size:
                    break
                size = min(2 * size, READ_MAX)
        except BaseException:
            if self.streaming:
                self._ahead, self._taken = b"".join(parts), 0
            raise
        data = b"".join(parts) if len(parts) > 1 else parts[0]
        self._position += len(data)
        self._drop_ahead()
        return data

    async def read1(self, size: int = -1, /) -> bytes:
        """Reads up to `size` bytes with at most one read(2): from a pipe, those it holds."""
        self._check_readable()
        async with self._lock:
            await self._flush()
            if size < 0:
                size = max(self._buffer_size, 1)
            if size and not self._available():
                await self._fill()
            return self._take(size)

    async def peek(self, size: int = 0, /) -> bytes:
        """Returns bytes after the cursor, which stays, with at most one read(2).

        They are any number, whatever `size` is, and none at the end of the file alone.
        """
        self._check_readable()
        async with self._lock:
            await self._flush()
            if not self._available():
                await self._fill()
            return self._ahead[self._taken :]

    async def readall(self) -> bytes:
        """Returns the rest of the file."""
        return await self.read()

    async def readinto(self, buffer: "Buffer", /) -> int:
        """Fills the writable `buffer`, less at the end of the file; returns the number of bytes.

        The buffer is not touched after this returns or raises.  Raises TypeError if it is
        read-only.
        """
        return await read_into(self.read, buffer)

    async def readinto1(self, buffer: "Buffer", /) -> int:
        """Reads into the writable `buffer` with at most one read(2), as read1()."""
        return await read_into(self.read1, buffer)

    async def readline(self, size: int | None = -1, /) -> bytes:
        """Reads a line with its newline, at most `size` bytes unless that is negative.

        Returns b"" at the end of the file.
        """
        self._check_readable()
        async with self._lock:
            await self._flush()
            return await self._readline(-1 if size is None else size)

    async def _readline(self, size: int) -> bytes:
        searched = 0
        while True:
            known = self._available()
            end = self._ahead.find(b"\n", self._taken + searched)
            length = end + 1 - self._taken if end >= 0 else known
            if size >= 0 and (length >= size or known >= size):
                return self._take(min(length, size))
            if end >= 0:
                return self._take(length)
            searched = known
            if not await self._fill():
                return self._take(known)

    async def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Returns the remaining lines; stops after `hint` bytes, if that is positive."""
        return await lines_of(self, hint)

    def __aiter__(self) -> Self:
        self._check_readable()
        return self

    async def __anext__(self) -> bytes:
        self._lines_read += 1
        if self._lines_read % LINES_MAX == 0:
            await asyncio.sleep(0)
        if not self._unwritten and self._writing is None and not self._lock.locked():
            self.fileno()
            if self._available():
                end = self._ahead.find(b"\n", self._taken)
                if end >= 0:
                    return self._take(end + 1 - self._taken)
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    # Writing

    async def write(self, data: "Buffer", /) -> int:
        """Writes all of `data`, into the buffer first; returns the number of bytes.

        An unbuffered device (or file of proc) gets a single write(2), which may take fewer bytes.
        """
        self._check_writable()
        if isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        async with self._lock:
            with memoryview(data) as view, view.cast("B") as source:
                size = len(source)
                self.fileno()  # another task may have closed the file meanwhile
                if self.streaming and (not self._gathers or size > self._buffer_size):
                    await self._flush()
                    return await self._to_stream(bytes(source))
                if self.streaming and len(self._unwritten) + size > self._buffer_size:
                    await self._flush()
                if not size:
                    return 0
                if not self.streaming:
                    self._drop_ahead()
                if size >= self._buffer_size and not self.streaming:
                    await self._flush()
                    self._begin_write(bytes(source))
                    await self._wait_pending()
                else:
                    self._unwritten += source
                    self._position += size
                    if len(self._unwritten) >= self._buffer_size and not self.streaming:
                        await self._flush()
                return size

    async def writelines(self, lines: Iterable["Buffer"], /) -> None:
        """Writes each of `lines`; adds no newlines."""
        for line in lines:
            await self.write(line)

    def _begin_write(self, data: bytes) -> None:
        if self._appending:
            self._writing = self.append(data)
        else:
            self._writing = self.pwrite(data, self._position)
            self._position += len(data)

    async def _to_stream(self, data: bytes) -> int:
        ahead = 0
        if self._seekable:
            ahead = await self._read_late()
            self._drop_ahead()
        whole = self._gathers or self._at_once
        self._writing = self._call(functools.partial(self._write_stream, data, ahead, whole))
        count: int = await self._wait_pending()
        return count

    async def _wait_pending(self) -> Any:
        """Waits for the write or truncate() under way; returns its result, or raises its error."""
        if self._writing is None:
            return None
        # A caller that is cancelled does not cancel the write.
        writing = self._writing
        await asyncio.wait([writing])
        self._writing = None
        result = writing.result()
        if self._appending and result is not None:  # truncate() does not move the cursor
            self._position = self.append_offset
        return result

    async def _flush(self) -> None:
        if self._writing is not None:
            await self._wait_pending()
        if self._unwritten:
            data = bytes(self._unwritten)
            self._unwritten.clear()
            self._position -= len(data)
            if self.streaming:
                await self._to_stream(data)
                return
            self._begin_write(data)
            await self._wait_pending()

    async def flush(self) -> None:
        """Writes the buffered bytes to the kernel; fsync() brings them to the device."""
        self.fileno()
        async with self._lock:
            await self._flush()

    # The cursor

    async def tell(self) -> int:
        """Returns the position of the cursor, in bytes."""
        self._check_seekable()
        if self.streaming:
            ahead = await self._read_late()
            return max(self._seek(0, os.SEEK_CUR) - ahead, 0) + len(self._unwritten)
        return self._position

    def _check_seekable(self) -> None:
        if not self.seekable():
            raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE), self.name)

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Moves the cursor; returns its position, in bytes.  whence as in io.IOBase.seek."""
        offset = operator.index(offset)
        if not self.seekable() and self._buffer_size:
            raise io.UnsupportedOperation("File or stream is not seekable.")
        self._check_seekable()
        async with self._lock:
            await self._flush()
            if self.streaming:
                ahead = await self._read_late()
                if whence == os.SEEK_CUR:
                    offset -= ahead
                position = await self._call(functools.partial(self._seek, offset, whence))
                self._drop_ahead()
                self._position = position
                return position
            if whence == os.SEEK_SET:
                position = offset
            elif whence == os.SEEK_CUR:
                position = self._position + offset
            else:
                seek = functools.partial(self._seek, offset, whence)
                position = await self._call(seek)
            if position < 0:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
            if position >= 1 << 63:
                raise OverflowError(f"the position must be below 2**63, not {position}")
            taken = self._taken + position - self._position
            if 0 <= taken <= len(self._ahead):
                self._taken = taken
            else:
                self._drop_ahead()
            self._position = position
            return position

    async def truncate(self, size: int | None = None, /) -> int:
        """Cuts or extends the file to `size` bytes, the cursor's position if None; returns it."""
        self._check_writable()
        async with self._lock:
            await self._flush()
            if size is None:
                size = await self.tell() if self.streaming else self._position
            if size < 0:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
            truncate = functools.partial(self._truncate, size)
            self._writing = self._call(truncate, exclusive=True)
            await self._wait_pending()
            self._drop_ahead()
            return size

    async def detach(self) -> io.FileIO:
        """Writes the buffered bytes, and gives the descriptor away; returns it as an io.FileIO.

        The kernel's cursor is put where ours is, if the file has positions.  Later calls raise
        ValueError, close() too.  Raises OSError (EBUSY) while positional I/O is under way.
        """
        self.fileno()
        async with self._lock:
            await self._flush()
            ahead = await self._read_late()
            fd, closefd = self._detach()
            self._detached = True
            # "w" on a descriptor neither creates nor truncates.
            raw = io.FileIO(fd, self.mode.replace("x", "w"), closefd)
            if self._seekable and not self.streaming:
                raw.seek(self._position)
            elif self._seekable:
                raw.seek(-ahead, os.SEEK_CUR)
            return raw

    async def close(self) -> None:
        """Writes the buffered bytes, waits for all I/O under way, and closes the file.

        Does not fsync.  Closing again does nothing.  The file is closed even if this raises, or
        is cancelled.  Raises ValueError after detach().
        """
        if self._detached:
            raise ValueError("the descriptor has been detached")
        try:
            if not self.closed:
                async with self._lock:
                    if not self.closed:
                        await self._flush()
        finally:
            await asyncio.shield(self._close())


async def read_into(read: Callable[[int], Coroutine[Any, Any, bytes]], buffer: "Buffer") -> int:
    """Fills a writable buffer with what `read` returns; returns the number of bytes."""
    with memoryview(buffer) as view, view.cast("B") as target:
        if target.readonly:
            raise TypeError("reading needs a writable buffer")
        data = await read(len(target))
        target[: len(data)] = data
        return len(data)


async def lines_of(file: AsyncIterable[AnyStr], hint: int | None) -> list[AnyStr]:
    """Returns the remaining lines; stops after `hint` bytes or characters, if positive."""
    lines = []
    total = 0
    async for line in file:
        lines.append(line)
        total += len(line)
        if hint is not None and 0 < hint <= total:
            break
    return lines
