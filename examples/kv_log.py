"""A log that is durable: records in segments, written in groups past the page cache.

Records wait for one another: those that arrive while one batch is written go into the next.  One
write is in flight, with O_DIRECT and RWF_DSYNC: it is on the device when it is done.

A segment is a file, 000001.log, 000002.log, …, allocated and filled with zeroes ahead:
  segment   a block that holds its number, its size and a random salt, then batches, each from
            a new block
  batch     checksum, length, sequence number, records: a batch is there as a whole, or not at all
  record    kind, length of key and of value, key, value
The checksum of a batch starts from the salt, so that old data of a recycled segment, or a value
made to look like a batch, is never taken for one.  Sequence numbers have no gaps.

At the start all batches are applied in order.  The first that is not whole is the end: a write that
was cut off and never acknowledged.  The disk has lost acknowledged data if a whole batch comes
after it, if a segment in the manifest (kv_manifest.py) is missing, or if one is shorter or longer
than it was made.  Then the log refuses to open, and names the file and the place in it.  Damage to
the very last batch cannot be distinguished from a write that was cut off.

Segments are given up at the oldest end only, when nothing in them is needed; the file becomes the
next new segment.
"""

import asyncio
import collections
import errno
import fcntl
import os
import secrets
import struct
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from kv_manifest import (
    Damaged,
    Manifest,
    make_directory,
    path_of,
    read_manifest,
    sync_directory,
    write_manifest,
)

import aiopoll

BLOCK = 4096
BATCH_SIZE = 256 << 10
"""Bytes after which records go into another batch; one command's records stay together."""

MAGIC = b"aiopolkv"
SEGMENT = struct.Struct("<8sQQQI")  # magic, number, size, salt, checksum
BATCH = struct.Struct("<IIQ")  # checksum of the rest, length of the records, sequence number
RECORD = struct.Struct("<BII")  # kind, lengths of key and value
SET, DELETE, FLUSH = 1, 2, 3

Record = tuple[int, bytes, bytes]
T = TypeVar("T")


class Segment:
    """A file of the log.  end: offset of the next batch.  live: bytes still needed. sequence: that
    of its first batch, once it has one."""

    __slots__ = ("end", "file", "live", "number", "seed", "sequence", "size")

    def __init__(self, file: aiopoll.BinaryFile, number: int, seed: int, size: int) -> None:
        self.file = file
        self.number = number
        self.seed = seed
        self.size = size
        self.end = BLOCK
        self.live = 0
        self.sequence = 0


class Place(NamedTuple):
    """Where a value is."""

    segment: Segment
    offset: int
    length: int
    checksum: int


class Batch:
    """Records that are written together.  durable: done when they are on the device."""

    __slots__ = ("durable", "records", "sequence", "size")

    def __init__(self, sequence: int, durable: asyncio.Future[None]) -> None:
        self.sequence = sequence
        self.durable = durable
        self.records: list[Record] = []
        self.size = BATCH.size


def blocks(size: int) -> int:
    """The size in bytes of as many whole blocks as `size` bytes need."""
    return -(-size // BLOCK) * BLOCK


def record_size(key: bytes, value_length: int) -> int:
    return RECORD.size + len(key) + value_length


def encode_segment(number: int, size: int, salt: int) -> bytes:
    head = SEGMENT.pack(MAGIC, number, size, salt, 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "little")


def decode_segment(data: bytes, number: int, size: int) -> int:
    """The checksum that those of the segment's batches start from.  size: the file's."""
    if len(data) < BLOCK:
        raise Damaged(f"it ends at {len(data)}, within its first block")
    magic, found, made, _, checksum = SEGMENT.unpack_from(data)
    if magic != MAGIC or found != number or checksum != zlib.crc32(data[: SEGMENT.size - 4]):
        raise Damaged("its first block, at 0, is not that of this segment")
    if size != made:
        raise Damaged(f"it ends at {size}, and was made to end at {made}")
    return int(checksum)


def encode_batch(sequence: int, records: Sequence[Record], seed: int) -> bytes:
    parts: list[bytes] = []
    for kind, key, value in records:
        parts += (RECORD.pack(kind, len(key), len(value)), key, value)
    payload = b"".join(parts)
    head = BATCH.pack(0, len(payload), sequence)[4:]
    checksum = zlib.crc32(payload, zlib.crc32(head, seed))
    return b"".join((checksum.to_bytes(4, "little"), head, payload))


def find_batch(data: bytes, start: int, seed: int) -> tuple[int, int] | None:
    """The sequence number and the end of the batch at `start`; None if no whole one is there."""
    checksum, length, sequence = BATCH.unpack_from(data, start)
    end = start + BATCH.size + length
    if sequence == 0 or end > len(data):
        return None
    if zlib.crc32(memoryview(data)[start + 4 : end], seed) != checksum:
        return None
    return sequence, end


def decode_records(data: bytes, start: int, end: int) -> Iterator[Record]:
    while start < end:
        kind, key_length, value_length = RECORD.unpack_from(data, start)
        start += RECORD.size
        middle = start + key_length
        yield kind, data[start:middle], data[middle : middle + value_length]
        start = middle + value_length


def read_batches(
    data: bytes, seed: int, expected: int | None
) -> Iterator[tuple[int, int, list[Record]]]:
    """The offset, sequence number and records of each batch of a segment.

    expected: the first sequence number, if it is known.  Raises Damaged where a batch is missing.
    """
    start = BLOCK
    while start < len(data):
        found = find_batch(data, start, seed)
        if found is None or expected not in (None, found[0]):
            break
        sequence, end = found
        yield start, sequence, list(decode_records(data, start + BATCH.size, end))
        expected = sequence + 1
        start = blocks(end)
    for later in range(start, len(data), BLOCK):
        if find_batch(data, later, seed):
            raise Damaged(f"a batch is missing at {start}, before a whole one at {later}")


def place_records(
    segment: Segment, start: int, records: Sequence[Record]
) -> Iterator[tuple[Record, Place]]:
    """Each record with the place of its value, for a batch at `start`."""
    offset = start + BATCH.size
    for record in records:
        _, key, value = record
        offset += RECORD.size + len(key)
        yield record, Place(segment, offset, len(value), zlib.crc32(value))
        offset += len(value)


Apply = Callable[[Record, Place, int], None]
"""Called for each durable record, in order: the record, its place, its sequence number."""


async def no_room() -> bool:
    return False


class Log:
    """Batches of records in segments, oldest first; the last segment is written to."""

    def __init__(self, directory: Path, segment_size: int, apply: Apply) -> None:
        self.directory = directory
        self.segment_size = segment_size
        self.segments: collections.deque[Segment] = collections.deque()
        self.switched = asyncio.Event()
        """Set when another segment is begun."""
        self.failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        """Done when the log can no longer be written."""
        self.backlog = 0
        """Bytes that are not durable yet."""
        self.commits = 0
        self._apply = apply
        self._batches: collections.deque[Batch] = collections.deque()
        self.last: Batch | None = None
        """The batch that was begun last."""
        self.make_room: Callable[[], Awaitable[bool]] = no_room
        """Called where the process has no descriptor left; returns whether one was given up."""
        self._sequence = 1
        self._durable = 1  # the sequence number after that of the last batch that is durable
        self._pool = aiopoll.BufferPool()
        self._writer: asyncio.Task[None] | None = None
        self._direct = True
        self._spare = directory / "spare"  # a segment to be: its contents mean nothing
        self._renaming = asyncio.Lock()  # held during any change of the spare

    async def open(self) -> None:
        """Applies the records in the directory, and prepares for more."""
        make_directory(self.directory)
        self._lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise BlockingIOError(error.errno, "another server uses it", self.directory) from None
        try:
            await self._find_segments()
            written = await self._recover()
            if not self.segments:
                self.segments.append(await self._prepare(1))
        except BaseException:
            await self._close_files()
            raise
        if len(self.segments) > max(written, 1):
            # The last one was made ready and not begun.
            self._next = asyncio.ensure_future(return_(self.segments.pop()))
            return
        self._next = asyncio.create_task(self._prepare(self.segments[-1].number + 1))

    async def _find_segments(self) -> None:
        """Reads the manifest, and undoes the steps that were unfinished when the server died."""
        stems = {path.stem for path in self.directory.glob("*.log")}
        numbers = {int(s) for s in stems if s.isdecimal() and self._path(int(s)).stem == s}
        manifest = read_manifest(self.directory)
        if manifest is None:
            if numbers:
                raise Damaged(f"{path_of(self.directory)}: it is missing, and segments are there")
            await self._note(Manifest(1, 0, 1))
            return
        self._manifest = manifest
        first, last, _ = manifest
        for number in sorted(numbers.difference(range(first - 1, last + 2))):
            raise Damaged(f"{self._path(number)}: the manifest has no such segment")
        if first - 1 in numbers:
            await self._rename(self._path(first - 1), self._spare)  # it was given up
        if last + 1 in numbers:
            # It was made, but not begun.
            await self._note(manifest._replace(last=last + 1))

    async def _note(self, manifest: Manifest) -> None:
        """Writes the current state to the manifest."""
        await self._with_room(lambda: asyncio.to_thread(write_manifest, self.directory, manifest))
        self._manifest = manifest

    async def _recover(self) -> int:
        """Applies all batches; how many segments come up to the last that has one."""
        first, last, expected = self._manifest
        written = 0
        for number in range(first, last + 1):
            path = self._path(number)
            try:
                expected = await self._recover_segment(number, expected)
            except Damaged as error:
                raise Damaged(f"{path}: {error}") from None
            except FileNotFoundError:
                raise Damaged(f"{path}: it is missing") from None
            except OSError as error:
                error.filename = error.filename or str(path)
                raise
            if self.segments[-1].end > BLOCK:
                written = len(self.segments)
        self._sequence = self._durable = expected
        return written

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06}.log"

    async def _with_room(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Repeats the call where a descriptor was missing, as long as one is given up."""
        while True:
            try:
                return await operation()
            except OSError as error:
                if error.errno != errno.EMFILE or not await self.make_room():
                    raise

    async def _open_file(self, path: Path, mode: Literal["r+b", "w+b"]) -> aiopoll.BinaryFile:
        if self._direct:
            try:
                return await self._with_room(lambda: aiopoll.open(path, mode, direct=True))
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            self._direct = False
            print(
                f"kv: {self.directory} takes no O_DIRECT: its page cache is used, and threads",
                file=sys.stderr,
            )
        return await self._with_room(lambda: aiopoll.open(path, mode))

    async def _recover_segment(self, number: int, expected: int) -> int:
        """Applies the segment's batches; the sequence number that comes next."""
        file = await self._open_file(self._path(number), "r+b")
        segment = Segment(file, number, 0, os.fstat(file.fileno()).st_size)
        self.segments.append(segment)
        segment.seed = decode_segment(await file.pread(BLOCK, 0), number, segment.size)
        # Records written again must fit, if segments were larger then.
        self.segment_size = max(self.segment_size, segment.size)
        data = await file.pread(segment.size, 0)
        for start, sequence, records in read_batches(data, segment.seed, expected):
            self._apply_batch(segment, start, sequence, records)
            expected = sequence + 1
        # The data read may be in the device's cache only.
        await file.datasync()
        return expected

    def _apply_batch(
        self, segment: Segment, start: int, sequence: int, records: Sequence[Record]
    ) -> None:
        if segment.end == BLOCK:
            segment.sequence = sequence
        for record, place in place_records(segment, start, records):
            self._apply(record, place, sequence)
        size = sum(record_size(key, len(value)) for _, key, value in records)
        segment.end = start + blocks(BATCH.size + size)

    async def _prepare(self, number: int) -> Segment:
        """A new segment, or one recycled, whose blocks have all been written before.

        A write into it changes no metadata, so that to make it durable is one write.
        """
        async with self._renaming:
            recycled = self._spare.exists() and self._spare.stat().st_size == self.segment_size
            file = await self._open_file(self._spare, "r+b" if recycled else "w+b")
            try:
                if not recycled:
                    await file.fallocate(0, self.segment_size)
                    zeroes = aiopoll.AlignedBuffer(1 << 20)
                    for offset in range(0, self.segment_size, len(zeroes)):
                        await file.pwrite(zeroes, offset)
                block = aiopoll.AlignedBuffer(BLOCK)
                head = encode_segment(number, self.segment_size, secrets.randbits(64))
                block[: len(head)] = head
                await file.pwrite(block, 0)
                await file.fsync()
                await self._rename(self._spare, self._path(number))
                await self._note(self._manifest._replace(last=number))
            except BaseException:
                await file.close()
                raise
        seed = decode_segment(bytes(block), number, self.segment_size)
        return Segment(file, number, seed, self.segment_size)

    async def _rename(self, old: Path, new: Path) -> None:
        await aiopoll.Path(old).rename(new)
        await self._with_room(lambda: asyncio.to_thread(sync_directory, self.directory))

    def append(self, records: Sequence[Record]) -> Batch:
        """Puts records into the batch that is written next, all into the same one."""
        if self.failed.done():
            raise OSError(f"the log cannot be written: {self.failed.result()}")
        size = sum(record_size(key, len(value)) for _, key, value in records)
        if not self._batches or self._batches[-1].size + size > BATCH_SIZE:
            durable = asyncio.get_running_loop().create_future()
            self.last = Batch(self._sequence, durable)
            self._batches.append(self.last)
            self._sequence += 1
        batch = self._batches[-1]
        batch.records += records
        batch.size += size
        self.backlog += size
        if self._writer is None:
            # It begins after this iteration of the loop, with all records that arrive in the
            # iteration.
            self._writer = asyncio.create_task(self._write())
        return batch

    async def _write(self) -> None:
        try:
            while self._batches:
                batch = self._batches.popleft()
                try:
                    await self._commit(batch)
                except BaseException:
                    self._batches.appendleft(batch)
                    raise
            self._writer = None
        except Exception as error:
            self.fail(error)

    async def _commit(self, batch: Batch) -> None:
        length = blocks(batch.size)
        while self.segments[-1].end + length > self.segments[-1].size:
            number = self.segments[-1].number + 1
            try:
                segment = await self._next
            except OSError:
                # The descriptor or space that it lacked before may be available by now.
                segment = await self._prepare(number)
            self.segments.append(segment)
            self._next = asyncio.create_task(self._prepare(number + 1))
            self.switched.set()
        segment = self.segments[-1]
        start = segment.end
        data = encode_batch(batch.sequence, batch.records, segment.seed)
        buffer = self._pool.take(length)
        with memoryview(buffer) as whole, whole[:length] as view:
            view[: len(data)] = data
            view[len(data) :] = bytes(length - len(data))
            await segment.file.pwrite(view, start, dsync=True)
        self._pool.give(buffer)
        self._apply_batch(segment, start, batch.sequence, batch.records)
        self._durable = batch.sequence + 1
        self.backlog -= batch.size - BATCH.size
        self.commits += 1
        batch.durable.set_result(None)

    def fail(self, error: Exception) -> None:
        """Gives up: only the next start shows which of the pending records became durable."""
        if not self.failed.done():
            self.failed.set_result(error)
        for batch in self._batches:
            batch.durable.set_exception(OSError(f"the log cannot be written: {error}"))
            batch.durable.exception()  # there may be no waiter to retrieve it
        self._batches.clear()

    async def sync(self) -> None:
        """Waits until all appended records are durable."""
        if self.last is not None:
            await asyncio.shield(self.last.durable)

    async def read(self, segment: Segment) -> bytes:
        return await segment.file.pread(segment.end, 0)

    async def retire(self) -> None:
        """Gives up the oldest segment, of which nothing is needed."""
        segment = self.segments.popleft()
        await segment.file.close()  # waits for its readers
        # Its name is gone for good before anything else happens to the file, or to the next one.
        async with self._renaming:
            head = self.segments[0]
            sequence = head.sequence or self._durable
            await self._note(self._manifest._replace(first=head.number, sequence=sequence))
            await self._rename(self._path(segment.number), self._spare)

    async def close(self) -> None:
        try:
            await self.sync()
        except OSError:
            pass  # it has failed, and reported the error
        if self._writer is not None:
            await asyncio.wait([self._writer])
        try:
            self.segments.append(await self._next)
        except OSError:
            pass  # there was no room for it, and it was not needed
        await self._close_files()

    async def _close_files(self) -> None:
        for segment in self.segments:
            await segment.file.close()
        os.close(self._lock)


async def return_(segment: Segment) -> Segment:
    return segment
