"""What the files of `aiopoll.open` inside a world share: io's calls as coroutines, and counters.

Rule: io's own objects decide what the methods mean. A pipe or FIFO is read and written by a thread
of the host, everything else within the loop's step.
Left out: the routes that requests take: the counters are of the plain case.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import operator
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import inside

if TYPE_CHECKING:
    from ..disk import Disk
    from ..host import Host

OFFSET_MAX = (1 << 63) - 1


class FileStatistics(NamedTuple):
    """aiopoll.FileStatistics: how many requests there were."""

    aio_reads: int = 0
    aio_writes: int = 0
    aio_syncs: int = 0
    inline_reads: int = 0
    thread_reads: int = 0
    thread_writes: int = 0
    thread_syncs: int = 0
    thread_calls: int = 0
    blocked: int = 0
    bounced: int = 0
    in_flight: int = 0
    waiting: int = 0
    in_threads: int = 0


def the_host() -> Host:
    """Return the host whose code runs."""
    host = inside.host()
    if host is None:
        raise RuntimeError("a file of the simulated world is used inside of it")
    return host


def disk_of(host: Host) -> Disk:
    assert host.disk is not None
    return host.disk


@contextlib.contextmanager
def waited(host: Host) -> Iterator[None]:
    """Let the device take no time: the caller has waited for it."""
    media = disk_of(host).media
    before, media.waited = media.waited, True
    try:
        yield
    finally:
        media.waited = before


def offset_of(value: Any) -> int:
    """Return an offset. ValueError, OverflowError."""
    offset = operator.index(value)
    if offset < 0:
        raise ValueError(f"offset must not be negative, not {offset}")
    if offset > OFFSET_MAX:
        raise OverflowError(f"offset must be below 2**63, not {offset}")
    return offset


class AsyncFile:
    """What binary and text files share: the calls of io's object, one after the other."""

    _io: Any
    _lock: asyncio.Lock
    _host: Host
    streaming: bool

    async def _do(self, method: str, *args: Any) -> Any:
        async with self._lock:
            call = getattr(self._io, method)
            if self.streaming:
                return await asyncio.get_running_loop().run_in_executor(None, call, *args)
            await asyncio.sleep(0)
            with waited(self._host):
                return call(*args)

    async def __aenter__(self) -> Any:
        self.fileno()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def fileno(self) -> int:
        """Return the host's number of the file. ValueError once it is closed."""
        number: int = self._io.fileno()
        return number

    def readable(self) -> bool:
        """Return whether the file is open for reading."""
        return bool(self._io.readable())

    def writable(self) -> bool:
        """Return whether the file is open for writing."""
        return bool(self._io.writable())

    def seekable(self) -> bool:
        """Return whether the file has positions."""
        return bool(self._io.seekable())

    def isatty(self) -> bool:
        """Return False."""
        return bool(self._io.isatty())

    def _check_reading(self) -> None:
        if not self.readable():
            raise io.UnsupportedOperation("not readable")

    async def read(self, size: int | None = -1, /) -> Any:
        """Read `size` bytes or characters; all if it is negative."""
        self._check_reading()
        return await self._do("read", size)

    async def readline(self, size: int | None = -1, /) -> Any:
        """Read a line."""
        self._check_reading()
        return await self._do("readline", -1 if size is None else size)

    async def readlines(self, hint: int | None = -1, /) -> Any:
        """Read the lines that are left."""
        self._check_reading()
        return await self._do("readlines", -1 if hint is None else hint)

    async def write(self, data: Any, /) -> Any:
        """Write all of `data`, into the buffer first."""
        return await self._do("write", data)

    async def writelines(self, lines: Iterable[Any], /) -> None:
        """Write each of `lines`."""
        for line in lines:
            await self.write(line)

    async def flush(self) -> None:
        """Write the buffered data to the kernel."""
        await self._do("flush")

    async def tell(self) -> int:
        """Return the position."""
        return int(await self._do("tell"))

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position and return it."""
        return int(await self._do("seek", offset, whence))

    async def truncate(self, size: int | None = None, /) -> int:
        """Cut the file to `size` bytes, by default to the position."""
        return int(await self._do("truncate", size))

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def close(self) -> None:
        raise NotImplementedError


def totals(host: Host) -> Counter[str]:
    found: Counter[str] = host.__dict__.setdefault("file_counts", Counter())
    return found


def file_statistics(host: Host) -> FileStatistics:
    """aiopoll.file_statistics()."""
    return FileStatistics(**totals(host))
