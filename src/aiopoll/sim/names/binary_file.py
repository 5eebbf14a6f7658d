"""aiopoll.BinaryFile of a host: a cursor, and positional calls whose futures are under way.

Facts: a direct file takes any offset and length. A call is under way when it returns.
Rule: what the device takes time for waits on the loop, so that other tasks run meanwhile. A direct
write is on its way until then, and a crash may tear it.
Left out: descriptors that are closed by other code, cancellation of what waits for the device.
"""

from __future__ import annotations

import asyncio
import io
import operator
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...kernel.ramfs import SECTOR_SIZE, Inode
from ...kernel.uapi import O_DIRECT
from .async_file import OFFSET_MAX, AsyncFile, FileStatistics, disk_of, offset_of, totals, waited
from .escape import escaped
from .paths import open_path
from .raw_files import open_file

if TYPE_CHECKING:
    from ..host import Host

RWF_DSYNC = 2
NSEC = 1_000_000_000


class BinaryFile(AsyncFile):
    """aiopoll.BinaryFile of a host."""

    def __init__(
        self,
        host: Host,
        path: Any,
        mode: str,
        buffering: int,
        closefd: bool,
        opener: Any,
        direct: bool,
    ) -> None:
        self._host = host
        self._kernel = host.kernel
        self._lock = asyncio.Lock()
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.direct: bool = direct
        self.borrowed: bool = not closefd
        self.writes: int = 0
        self.counts: Counter[str] = Counter()
        self._under_way = 0
        self._closing: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        if direct:
            opener = _direct_opener(host, "r" not in mode or "+" in mode)
        raw: Any = open_file(host, path, mode, 0, closefd=closefd, opener=opener)
        self.raw = raw
        self.name: Any = path
        self.mode: str = raw.mode
        self._fd: int = raw.fileno()
        status = self._kernel.fstat(self._fd)
        self.streaming: bool = not stat.S_ISREG(status.st_mode)
        self.append_offset: int = status.st_size
        self.alignment: int = SECTOR_SIZE if direct else 1
        base: Any = _Bounced(self, raw) if direct else raw
        size = 65_536 if buffering < 0 else buffering
        if buffering == 0:
            self._io = base
        elif raw.readable() and raw.writable():
            self._io = io.BufferedRandom(base, size)
        elif raw.writable():
            self._io = io.BufferedWriter(base, size)
        else:
            self._io = io.BufferedReader(base, size)

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<aiopoll.BinaryFile{state} name={self.name!r} mode={self.mode!r}>"

    @property
    def closed(self) -> bool:
        """Return whether close() was called."""
        return self._closing is not None

    def statistics(self) -> FileStatistics:
        """Return the counters of this file."""
        return FileStatistics(**self.counts)._replace(in_flight=self._under_way)

    async def read1(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes with at most one call."""
        data: bytes = await self._do("read1", size)
        return data

    async def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer, less at the end of the file; returns the number of bytes."""
        return int(await self._do("readinto", buffer))

    async def readinto1(self, buffer: Any, /) -> int:
        """Read into a buffer with at most one call."""
        return int(await self._do("readinto1", buffer))

    async def peek(self, size: int = 0, /) -> bytes:
        """Return bytes after the cursor, which stays."""
        data: bytes = await self._do("peek", size)
        return data

    async def readall(self) -> bytes:
        """Read the rest of the file."""
        data: bytes = await self.read()
        return data

    async def detach(self) -> Any:
        """Refused: a descriptor of a host is in no io.FileIO."""
        raise escaped("detach() of a file", "go on with the file itself")

    # Positional calls

    def _check(self, *, reading: bool = False, writing: bool = False) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if reading and not self.raw.readable():
            raise io.UnsupportedOperation("not readable")
        if writing and not self.raw.writable():
            raise io.UnsupportedOperation("not writable")

    def _start(self, counter: str, operations: tuple[str, ...], call: Callable[[], Any]) -> Any:
        """Carry out `call` when the device has had its time; returns a future of its result."""
        host, future = self._host, self.loop.create_future()
        self.counts[counter] += 1
        totals(host)[counter] += 1
        node = self._kernel.fget(self._fd).private_data
        media = disk_of(host).media
        delay_ns = sum(media.draw_delay_ns(operation, node) for operation in operations)
        self._under_way += 1

        def carry_out() -> None:
            try:
                with waited(host):
                    result = call()
            except OSError as exc:
                if exc.filename is None:
                    exc.filename = self.name
                if not future.cancelled():
                    future.set_exception(exc)
            else:
                if not future.cancelled():
                    future.set_result(result)
            finally:
                self._under_way -= 1
                if not self._under_way and self._idle is not None and not self._idle.done():
                    self._idle.set_result(None)

        if delay_ns:
            self.loop.call_later(delay_ns / NSEC, carry_out)
        else:
            self.loop.call_soon(carry_out)
        return future

    def _read_operations(self) -> tuple[str, ...]:
        return ("read",) if self.direct else ()

    def pread(self, size: Any, offset: Any) -> asyncio.Future[bytes]:
        """Read up to `size` bytes at `offset`."""
        count, start = operator.index(size), offset_of(offset)
        if count < 0:
            raise ValueError(f"size must not be negative, not {size}")
        self._check(reading=True)
        future: asyncio.Future[bytes] = self._start(
            "aio_reads" if self.direct else "inline_reads",
            self._read_operations(),
            lambda: self.read_now(count, start),
        )
        return future

    def pread_into(self, buffer: Any, offset: Any) -> asyncio.Future[int]:
        """Read into a writable buffer at `offset`; a future of the number of bytes."""
        return self.preadv([buffer], offset)

    def preadv(self, buffers: Iterable[Any], offset: Any) -> asyncio.Future[int]:
        """Read into several buffers in order."""
        start = offset_of(offset)
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        if any(view.readonly for view in views):
            raise TypeError("reading needs writable buffers")
        self._check(reading=True)

        def call() -> int:
            data = self.read_now(sum(map(len, views)), start)
            done = 0
            for view in views:
                part = data[done : done + len(view)]
                view[: len(part)] = part
                done += len(part)
                view.release()
            return done

        future: asyncio.Future[int] = self._start(
            "aio_reads" if self.direct else "inline_reads", self._read_operations(), call
        )
        return future

    def pwrite(self, data: Any, offset: Any, *, dsync: bool = False) -> asyncio.Future[int]:
        """Write all of `data` at `offset`; `dsync`: it is on the device when that is done."""
        if isinstance(data, (list, tuple)):
            raise TypeError("pwrite() takes one buffer: call pwritev() for several")
        return self._write([data], offset_of(offset), dsync)

    def pwritev(
        self, buffers: Iterable[Any], offset: Any, *, dsync: bool = False
    ) -> asyncio.Future[int]:
        """Write several buffers in order."""
        return self._write(buffers, offset_of(offset), dsync)

    def append(self, data: Any, *, dsync: bool = False) -> asyncio.Future[int]:
        """Write to the end of the file; a future of the offset."""
        buffers = data if isinstance(data, (list, tuple)) else [data]
        return self._write(buffers, None, dsync)

    def _write(
        self, buffers: Iterable[Any], offset: int | None, dsync: bool
    ) -> asyncio.Future[int]:
        content = b"".join(bytes(memoryview(buffer).cast("B")) for buffer in buffers)
        self._check(writing=True)
        self.writes += 1
        at_end = bool(self._kernel.fget(self._fd).f_flags & os.O_APPEND)
        if at_end and offset is not None:
            raise io.UnsupportedOperation(
                f"{self.name!r} is open for appending, where every write goes to the end of"
                " the file, whatever its offset: call append()"
            )
        start = self.append_offset if offset is None else offset
        if start + len(content) > OFFSET_MAX:
            raise OverflowError(f"{len(content)} bytes at {start} would end past 2**63")
        self.append_offset = max(self.append_offset, start + len(content))
        device, node = disk_of(self._host).device, self._kernel.fget(self._fd).private_data
        on_its_way = self.direct and isinstance(node, Inode)
        flight = device.begin_write(node, start, content) if on_its_way else 0

        def call() -> int:
            device.end_write(flight)
            self.write_now(content, start, RWF_DSYNC if dsync else 0)
            return start if offset is None else len(content)

        operations = (("write",) if self.direct else ()) + (("fsync",) if dsync else ())
        future: asyncio.Future[int] = self._start(
            "aio_writes" if self.direct else "thread_writes", operations, call
        )
        return future

    def fsync(self) -> asyncio.Future[None]:
        """Bring the data and metadata to the device."""
        self._check()
        future: asyncio.Future[None] = self._start(
            "aio_syncs", ("fsync",), lambda: self._kernel.fsync(self._fd)
        )
        return future

    def datasync(self) -> asyncio.Future[None]:
        """Bring the data to the device, and the metadata that it needs."""
        self._check()
        future: asyncio.Future[None] = self._start(
            "aio_syncs", ("fsync",), lambda: self._kernel.fdatasync(self._fd)
        )
        return future

    def fallocate(
        self, offset: Any, length: Any, *, keep_size: bool = False
    ) -> asyncio.Future[None]:
        """Allocate blocks."""
        start, size = offset_of(offset), operator.index(length)
        if size < 1:
            raise ValueError(f"length must be at least 1, not {length}")
        self._check(writing=True)
        future: asyncio.Future[None] = self._start(
            "thread_calls",
            (),
            lambda: self._kernel.fallocate(self._fd, int(keep_size), start, size),
        )
        return future

    def read_now(self, count: int, offset: int) -> bytes:
        """Read at `offset`, in whole sectors if the file is direct."""
        low, high = offset, offset + count
        if self.direct:
            low -= low % SECTOR_SIZE
            high += -high % SECTOR_SIZE
        parts: list[bytes] = []
        while low < high:
            part = self._kernel.pread(self._fd, high - low, low)
            if not part:
                break
            parts.append(part)
            low += len(part)
            if self.direct and low % SECTOR_SIZE:
                break
        return b"".join(parts)[offset % SECTOR_SIZE if self.direct else 0 :][:count]

    def write_now(self, data: bytes, offset: int, flags: int = 0) -> None:
        """Write all at `offset`; a direct file's sectors are read before, where they are cut."""
        low, high = offset, offset + len(data)
        end = max(self._kernel.fstat(self._fd).st_size, high)
        if self.direct and (low % SECTOR_SIZE or high % SECTOR_SIZE):
            self.counts["bounced"] += 1
            low -= low % SECTOR_SIZE
            high += -high % SECTOR_SIZE
            before = bytearray(self.read_now(high - low, low).ljust(high - low, b"\0"))
            before[offset - low : offset - low + len(data)] = data
            data = bytes(before)
        while data:
            done = self._kernel.pwritev2(self._fd, data, low, flags)
            data, low = data[done:], low + done
        if high > end:
            self._kernel.ftruncate(self._fd, end)

    async def truncate(self, size: int | None = None, /) -> int:
        """Cut the file to `size` bytes, by default to the position."""
        result = await super().truncate(size)
        self.append_offset = result
        return result

    async def close(self) -> None:
        """Write what is buffered, wait for all I/O under way, and close the file."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._end())
        await asyncio.shield(self._closing)

    async def _end(self) -> None:
        async with self._lock:
            if self._under_way:
                self._idle = self.loop.create_future()
                await self._idle
            with waited(self._host):
                self._io.close()


class _Bounced(io.RawIOBase):
    """A direct file as io's buffers take it: any offset, any length."""

    def __init__(self, file: BinaryFile, raw: Any) -> None:
        self._file = file
        self._raw = raw
        self._position = 0

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def readable(self) -> bool:
        return bool(self._raw.readable())

    def writable(self) -> bool:
        return bool(self._raw.writable())

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer) as whole, whole.cast("B") as view:
            data = self._file.read_now(len(view), self._position)
            view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def write(self, data: Any) -> int:
        with memoryview(data) as view:
            content = bytes(view)
        end = self._position + len(content)
        self._file.append_offset = max(self._file.append_offset, end)
        self._file.write_now(content, self._position)
        self._position = end
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {0: 0, 1: self._position, 2: os.fstat(self.fileno()).st_size}[whence]
        self._position = base + offset
        return self._position

    def truncate(self, size: int | None = None, /) -> int:
        return int(self._raw.truncate(self._position if size is None else size))

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._raw.close()


def _direct_opener(host: Host, writes: bool) -> Callable[[Any, int], int]:
    def opener(path: Any, flags: int) -> int:
        if writes:
            flags = flags & ~(os.O_ACCMODE | os.O_APPEND) | os.O_RDWR
        return open_path(host, path, flags | O_DIRECT, 0o666)

    return opener
