"""WrappedBinaryFile: a binary file of io's that is open already, with coroutines for methods."""

import asyncio
import functools
import io
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from aiopoll.files.binary import read_into
from aiopoll.files.calls import in_own_thread
from aiopoll.files.held import NotReady, descriptor_of, has_other_end, peek_held, pipe_buffer
from aiopoll.files.readable import until_readable
from aiopoll.files.wrapped import WrappedFile

if TYPE_CHECKING:
    from typing_extensions import Buffer

CHUNK = 64 << 10
"""Bytes asked of an unbuffered pipe at once, where all of it is read."""


class WrappedBinaryFile(WrappedFile[bytes]):
    """A binary file that is open already: its methods as coroutines.  See aiopoll.wrap()."""

    _empty = b""

    def __init__(self, find: Callable[[], Any]) -> None:
        super().__init__(find)
        # A read(2) of an unbuffered pipe whose caller was cancelled.
        self._reading: asyncio.Future[bytes | None] | None = None

    @property
    def raw(self) -> io.RawIOBase:
        """The raw file under the buffer."""
        raw: io.RawIOBase = self._file.raw
        return raw

    def _end_of_line(self, data: bytes) -> int:
        return data.find(b"\n") + 1

    def _take_held(self, buffer: io.BufferedReader, size: int, line: bool, at_end: bool) -> bytes:
        held = peek_held(buffer)
        if not held and not at_end:
            raise NotReady
        wanted = len(held) if size < 0 else min(size, len(held))
        if line:
            wanted = min(wanted, self._end_of_line(held) or wanted)
        return buffer.read1(wanted) if wanted else b""

    async def _read(self, method: str, size: int | None) -> bytes:
        # An unbuffered pipe: its reads are the loop's to wait for, too.
        if isinstance(self._file, io.RawIOBase):
            fd = descriptor_of(self._file)
            if fd is not None and has_other_end(fd):
                return await self._read_raw(fd, method, -1 if size is None else size)
        return await super()._read(method, size)

    async def _read_raw(self, fd: int, method: str, size: int) -> bytes:
        """Reads an unbuffered pipe: once for read(n), a byte at a time for readline()."""
        line, once = method == "readline", method == "read" and size >= 0
        async with self._one_by_one():
            await self._wait_pending()
            data, self._kept = self._kept, b""
            try:
                while not (once and data) and (size < 0 or len(data) < size):
                    if line and self._end_of_line(data):
                        break
                    part = await self._read_once(fd, 1 if line else size if once else CHUNK)
                    if not part:
                        break
                    data += part
            except BaseException:
                self._kept = data
                raise
            wanted = len(data) if size < 0 else min(size, len(data))
            if line:
                wanted = min(wanted, self._end_of_line(data) or wanted)
            self._kept = data[wanted:]
            return data[:wanted]

    async def _read_once(self, fd: int, size: int) -> bytes:
        """Returns the result of one read(2); that of a cancelled call, if there is one."""
        reading = self._reading
        if reading and not reading.done() and reading.get_loop() is not self._loop:
            self._reading = None  # the parent's, in the child of a fork
        while True:
            if self._reading is None:
                await until_readable(fd)
                self._reading = in_own_thread(functools.partial(self._file.read, size))
            if not self._reading.done():
                await asyncio.wait([self._reading])
            part = self._reading.result()
            self._reading = None
            if part is not None:  # None: another reader of a descriptor that never blocks was first
                return part

    async def read1(self, size: int = -1, /) -> bytes:
        """Reads up to `size` bytes with at most one read(2)."""
        return await self._some("read1", size)

    async def _some(self, method: str, size: int) -> bytes:
        async with self._one_by_one():
            buffer = pipe_buffer(self._file)
            if buffer is None or size == 0:
                data: bytes = await self._call(method, size)
                return data
            await self._wait_pending()
            if self._kept:
                held = self._kept
            else:
                at_end = False
                while not (held := peek_held(buffer)) and not at_end:
                    at_end = await self._fill(buffer)
            if method == "peek":
                return held
            wanted = len(held) if size < 0 else min(size, len(held))
            if self._kept:
                data, self._kept = held[:wanted], held[wanted:]
                return data
            return buffer.read1(wanted) if wanted else b""

    async def peek(self, size: int = 0, /) -> bytes:
        """Returns bytes without moving the position, after at most one read(2)."""
        return await self._some("peek", size or 1)

    async def readall(self) -> bytes:
        """Reads to the end."""
        return await self.read()

    async def readinto(self, buffer: "Buffer", /) -> int:
        """Fills the writable `buffer`, less at the end; returns the number of bytes."""
        return await self._into("readinto", self.read, buffer)

    async def readinto1(self, buffer: "Buffer", /) -> int:
        """Reads into the writable `buffer` with at most one read(2)."""
        return await self._into("readinto1", self.read1, buffer)

    async def _into(
        self, method: str, read: Callable[[int], Coroutine[Any, Any, bytes]], buffer: "Buffer"
    ) -> int:
        fd = descriptor_of(self._file)
        if fd is not None and has_other_end(fd):
            return await read_into(read, buffer)

        # A call that is cancelled goes on, and must not write to the caller's buffer then.
        async def read_by_its_own(size: int) -> bytes:
            own = bytearray(size)
            return bytes(own[: await self._do(method, own)])

        return await read_into(read_by_its_own, buffer)

    async def write(self, data: "Buffer", /) -> int:
        """Calls the file's write()."""
        return int(await self._do("write", data))

    async def writelines(self, lines: Iterable["Buffer"], /) -> None:
        """Calls the file's writelines()."""
        await self._do("writelines", lines)
