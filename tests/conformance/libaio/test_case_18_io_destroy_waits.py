"""Case 18: when io_destroy returns, the read is over: its memory is the caller's again.

libaio's harness does it 1,000 times in each of 100 threads; io_destroy takes some 30
milliseconds of the kernel's time, so here it is 3 times in each of 16.
"""

import mmap
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiopoll.libaio import (
    io_context_t,
    io_destroy,
    io_prep_pread,
    io_queue_init,
    io_submit,
    iocb,
)

THREADS = 16
ROUNDS = 3
SIZE = mmap.PAGESIZE


def open_direct(path: Path) -> int:
    """O_DIRECT keeps the read in flight; file systems without it still run the test."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return os.open(path, os.O_RDONLY)


def test_io_destroy_waits(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1" * SIZE)
    start = threading.Barrier(THREADS, timeout=30)

    def worker() -> None:
        fd = open_direct(path)
        buf = mmap.mmap(-1, SIZE)
        try:
            start.wait()
            for _ in range(ROUNDS):
                ctx, cb = io_context_t(), iocb()
                assert io_queue_init(1, ctx) == 0
                io_prep_pread(cb, fd, buf, SIZE, 0)
                buf[:] = b"0" * SIZE
                assert io_submit(ctx, 1, [cb]) == 1
                assert io_destroy(ctx) == 0
                assert buf[:] == b"1" * SIZE
                buf[:] = b"2" * SIZE
                assert buf[:] == b"2" * SIZE
        finally:
            os.close(fd)

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(worker) for _ in range(THREADS)]:
            future.result(60)
