"""Positional I/O against a plain file in memory: routes, ends of files, alignment."""

import asyncio
import itertools
import mmap
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.kernel import preallocated_blocks_take_nowait

import aiopoll

BLOCK = 512
# Around every boundary between the routes: blocks, pages, and nothing special.
EDGES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 4095, 4096, 4097, 8191, 8192, 8193, 3 * 4096]
offsets = st.one_of(st.sampled_from(EDGES), st.integers(0, 20_000))
sizes = st.one_of(st.sampled_from(EDGES), st.integers(0, 9_000))

operations = st.lists(
    st.one_of(
        st.tuples(st.just("pread"), offsets, sizes),
        st.tuples(st.just("pread_into"), offsets, sizes),
        st.tuples(st.just("preadv"), offsets, sizes),
        st.tuples(st.just("pwrite"), offsets, sizes),
        st.tuples(st.just("pwrite_dsync"), offsets, sizes),
        st.tuples(st.just("pwritev"), offsets, sizes),
        st.tuples(st.just("append"), st.just(0), sizes),
        st.tuples(st.just("truncate"), offsets, st.just(0)),
        st.tuples(st.just("fallocate"), offsets, st.integers(1, 9_000)),
        st.tuples(st.just("fsync"), st.just(0), st.just(0)),
    ),
    max_size=12,
)


class Model:
    """The same file in memory."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.append_offset = 0

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        if data:
            if len(self.data) < offset:
                self.data.extend(bytes(offset - len(self.data)))
            self.data[offset : offset + len(data)] = data
        self.append_offset = max(self.append_offset, offset + len(data))

    def truncate(self, size: int) -> None:
        self.data = self.data[:size] + bytes(max(0, size - len(self.data)))
        self.append_offset = size

    def fallocate(self, end: int) -> None:
        self.data.extend(bytes(max(0, end - len(self.data))))


def pattern(number: int, size: int) -> bytes:
    """Bytes that identify their write."""
    return bytes((number * 37 + i) % 255 + 1 for i in range(size))


async def one_after_the_other(path: Path, direct: bool, steps: list[tuple[str, int, int]]) -> None:
    model = Model()
    async with aiopoll.open(path, "w+b", direct=direct) as file:
        for number, (name, offset, size) in enumerate(steps):
            data = pattern(number, size)
            if name == "pread":
                assert await file.pread(size, offset) == model.read(offset, size)
            elif name == "pread_into":
                buffer = bytearray(size)
                count = await file.pread_into(buffer, offset)
                assert buffer[:count] == model.read(offset, size)
                assert not any(buffer[count:])
            elif name == "preadv":
                aligned = aiopoll.AlignedBuffer(4096)
                count = await file.preadv([aligned, rest := bytearray(size)], offset)
                assert (bytes(aligned) + rest)[:count] == model.read(offset, 4096 + size)
            elif name.startswith("pwrite_") or name == "pwrite":
                assert await file.pwrite(data, offset, dsync=name == "pwrite_dsync") == size
                model.write(offset, data)
            elif name == "pwritev":
                half = size // 2
                assert await file.pwritev([data[:half], b"", data[half:]], offset) == size
                model.write(offset, data)
            elif name == "append":
                end = model.append_offset
                assert await file.append(data) == end
                model.write(end, data)
            elif name == "truncate":
                await file.truncate(offset)
                model.truncate(offset)
            elif name == "fallocate":
                await file.fallocate(offset, size)
                model.fallocate(offset + size)
            else:
                await file.fsync()
                await file.datasync()
            assert os.fstat(file.fileno()).st_size == len(model.data), name
            assert file.append_offset == model.append_offset
        assert await file.pread(len(model.data) + 10, 0) == model.data
    assert path.read_bytes() == model.data


@pytest.mark.parametrize("direct", [False, True], ids=["buffered", "direct"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=operations)
def test_like_a_file_in_memory(
    tmp_path: Path, direct: bool, steps: list[tuple[str, int, int]]
) -> None:
    aiopoll.run(one_after_the_other(tmp_path / "file", direct, steps))


@pytest.mark.parametrize("direct", [False, True], ids=["buffered", "direct"])
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.sets(st.integers(1, 30_000), max_size=40), shuffled=st.randoms())
def test_writes_side_by_side_that_share_blocks_lose_nothing(
    tmp_path: Path, direct: bool, cuts: set[int], shuffled
) -> None:
    """Neighbours that meet within blocks are written all at once, in any order."""
    path = tmp_path / "file"
    borders = [0, *sorted(cuts), 30_001]
    whole = pattern(1, borders[-1])
    parts = list(itertools.pairwise(borders))
    shuffled.shuffle(parts)

    async def main() -> None:
        async with aiopoll.open(path, "w+b", direct=direct) as file:
            await asyncio.gather(*(file.pwrite(whole[a:b], a) for a, b in parts))
            read = await asyncio.gather(*(file.pread(b - a, a) for a, b in parts))
            assert read == [whole[a:b] for a, b in parts]

    aiopoll.run(main())
    assert path.read_bytes() == whole


def test_direct_overwrites_and_reads_take_the_ring(tmp_path: Path) -> None:
    path = tmp_path / "file"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)  # nothing of it is cached
    assert os.write(fd, mmap.mmap(-1, 64 * 4096)) == 64 * 4096
    os.close(fd)

    async def main() -> None:
        async with aiopoll.open(path, "r+b", direct=True) as file:
            buffer = aiopoll.AlignedBuffer(4096)
            await asyncio.gather(*(file.pwrite(buffer, i * 4096) for i in range(64)))
            await asyncio.gather(*(file.pread_into(buffer, i * 4096) for i in range(64)))
            await file.pwrite(buffer, 0, dsync=True)
            file.append_offset = 4096
            assert await file.append(buffer) == 4096
            await file.fsync()
            counts = file.statistics()
            assert (counts.aio_writes, counts.aio_reads, counts.aio_syncs) == (66, 64, 1)
            assert (counts.thread_writes, counts.thread_reads, counts.bounced) == (0, 0, 0)

    aiopoll.run(main())


def test_preallocated_blocks_take_the_ring_where_they_can(tmp_path: Path) -> None:
    detours = 0 if preallocated_blocks_take_nowait(tmp_path) else 16

    async def main() -> None:
        async with aiopoll.open(tmp_path / "file", "w+b", direct=True) as file:
            await file.fallocate(0, 16 * 4096)
            buffer = aiopoll.AlignedBuffer(4096)
            for again in range(2):
                buffer[:] = bytes([again + 1]) * 4096
                for i in range(16):
                    await file.pwrite(buffer, i * 4096)
                counts = file.statistics()
                assert counts.aio_writes == 16 * (again + 1)
                assert (counts.thread_writes, counts.blocked) == (detours, detours)
            assert await file.pread(16 * 4096, 0) == b"\2" * 16 * 4096

    aiopoll.run(main())


def test_cached_reads_are_answered_within_the_call(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    async def main() -> None:
        async with aiopoll.open(path, "rb") as file:
            reading = file.pread(4, 3)
            assert reading.done()
            assert await reading == b"3456"
            assert await file.pread(100, 8) == b"89"
            assert await file.pread(100, 10) == b""
            assert file.statistics().inline_reads == 3

    aiopoll.run(main())


def test_hundreds_in_flight_make_no_task(tmp_path: Path) -> None:
    async def main() -> None:
        async with aiopoll.open(tmp_path / "file", "w+b", direct=True) as file:
            await file.fallocate(0, 1000 * 4096)
            futures = [file.pread(4096, i * 4096) for i in range(1000)]
            assert len(asyncio.all_tasks()) == 1
            assert await asyncio.gather(*futures) == [bytes(4096)] * 1000
            counts = aiopoll.file_statistics()
            assert (counts.in_flight, counts.waiting, counts.in_threads) == (0, 0, 0)

    aiopoll.run(main())


def test_bad_arguments_raise_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with aiopoll.open(tmp_path / "file", "w+b") as file:
            for wrong in (-1, 2**63):
                with pytest.raises((ValueError, OverflowError)):
                    file.pread(1, wrong)
                with pytest.raises((ValueError, OverflowError)):
                    file.pwrite(b"x", wrong)
            with pytest.raises(ValueError, match="size must not be negative"):
                file.pread(-1, 0)
            with pytest.raises(OverflowError):
                file.pread(2**62, 2**62 + 2**61 + 2**62 - 1)
            with pytest.raises(BufferError):
                file.pread_into(b"read-only", 0)
            with pytest.raises(TypeError):
                file.pwrite("text", 0)
            with pytest.raises(TypeError, match="pwritev"):
                file.pwrite([b"x"], 0)
            with pytest.raises(ValueError, match="length must be at least 1"):
                file.fallocate(0, 0)
        with pytest.raises(ValueError, match="closed file"):
            file.pread(1, 0)

    aiopoll.run(main())


@pytest.mark.parametrize("mode", ["w+b", "a+b"])
def test_vectors_may_have_any_number_of_empty_buffers(tmp_path: Path, mode: str) -> None:
    """preadv(2) takes 1024 at once, and returns 0 where all of them are empty."""
    empty: list[bytes | bytearray] = [bytearray()] * 1500

    async def main() -> None:
        async with aiopoll.open(tmp_path / "file", mode) as file:
            await file.append([*empty, b"01234", *empty, b"56789", *empty])
            first, second = bytearray(5), bytearray(9)
            assert await file.preadv([*empty, first, *empty, second, *empty], 0) == 10
            assert (first, second[:5]) == (b"01234", b"56789")

    aiopoll.run(main())


def test_a_direct_write_that_fails_cuts_nothing_off(tmp_path: Path, small_files) -> None:
    """A neighbour may have written after its offset."""

    async def main() -> None:
        async with aiopoll.open(tmp_path / "file", "w+b", direct=True) as file:
            with small_files(3 << 19), pytest.raises(OSError, match="too large"):
                await file.pwrite(bytes(2 << 20), 0)
            fits = os.fstat(file.fileno()).st_size
            assert fits == 3 << 19
            neighbour = aiopoll.AlignedBuffer(4096)
            for _ in range(5):
                await file.truncate(0)
                with small_files(3 << 19):
                    failing = file.pwrite(bytes(2 << 20), 1 << 20)
                    writes = [file.pwrite(neighbour, 4096 * number) for number in range(24)]
                    with pytest.raises(OSError, match="too large"):
                        await failing
                    await asyncio.gather(*writes)
                assert os.fstat(file.fileno()).st_size == fits

    aiopoll.run(main())
