"""Async files release their resources: descriptors, threads, buffers, AIO contexts."""

import asyncio
import gc
import threading
from pathlib import Path

import pytest
from tests.support.descriptors import open_count

import aiopoll
from aiopoll.files.scheduler import queue_of

from .counts import rings


def base() -> tuple[int, int, int]:
    """Descriptors, threads, and AIO contexts of this process."""
    gc.collect()
    return open_count(), threading.active_count(), rings()


async def use(path: Path) -> None:
    queue = queue_of(asyncio.get_running_loop())
    for _ in range(3):
        async with aiopoll.open(path, "w+b", direct=True) as file:
            await file.fallocate(0, 1 << 20)
            await asyncio.gather(*(file.pwrite(b"x" * 5000, i * 5000) for i in range(40)))
            reads = [file.pread(5000, i * 5000) for i in range(200)]
            for read in reads[::2]:
                read.cancel()
            await asyncio.gather(*reads[1::2])
            with pytest.raises(BufferError):
                file.pread_into(b"read-only", 0)
        async with aiopoll.open(path) as text:
            await text.read(10)
        with pytest.raises(FileNotFoundError):
            await aiopoll.open(path.with_name("none"))
    counts = queue.statistics()
    assert (counts.in_flight, counts.waiting, counts.in_threads) == (0, 0, 0)
    # Every bounce buffer is back, and the pool keeps no more than its limit.
    assert 0 < queue.pool.kept <= queue.pool.kept_max


@pytest.mark.parametrize("runner", [aiopoll.run, asyncio.run], ids=["aiopoll", "asyncio"])
def test_all_comes_back(runner, tmp_path: Path) -> None:
    runner(use(tmp_path / "file"))
    before = base()
    for _ in range(5):
        runner(use(tmp_path / "file"))
    assert base() == before


def test_memory_does_not_grow_with_requests(tmp_path: Path) -> None:
    import tracemalloc

    async def main() -> None:
        async with aiopoll.open(tmp_path / "file", "w+b", direct=True) as file:
            await file.fallocate(0, 1 << 20)
            sizes = []
            for _ in range(4):
                for _ in range(20):
                    await asyncio.gather(*(file.pread(4096, i * 4096) for i in range(100)))
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
            assert sizes[-1] - sizes[1] < 20_000

    tracemalloc.start()
    try:
        aiopoll.run(main())
    finally:
        tracemalloc.stop()
