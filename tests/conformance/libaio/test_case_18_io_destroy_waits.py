"""Case 18: when io_destroy returns, the read is over: its memory is the caller's again.

libaio's harness does it 1,000 times in each of 100 threads.  io_destroy takes the kernel some 30
milliseconds, so here it is 3 times in each of 16.
"""

import mmap
import os
from pathlib import Path

from aiopoll.libaio import io_prep_pread, iocb

THREADS = 16
ROUNDS = 3
SIZE = mmap.PAGESIZE


def open_direct(machine, path: Path) -> int:
    """O_DIRECT keeps the read in flight; file systems without it still run the test."""
    try:
        return machine.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return machine.open(path, os.O_RDONLY)


def test_io_destroy_waits(machine, tmp_path: Path) -> None:
    path = tmp_path / "file"
    fd = machine.open(path, os.O_WRONLY | os.O_CREAT)
    machine.write(fd, b"1" * SIZE)
    machine.close(fd)
    start = machine.barrier(THREADS)

    def worker() -> None:
        fd = open_direct(machine, path)
        buf = mmap.mmap(-1, SIZE)
        try:
            start.wait()
            for _ in range(ROUNDS):
                ctx, cb = machine.new_context(), iocb()
                assert machine.io_queue_init(1, ctx) == 0
                io_prep_pread(cb, fd, buf, SIZE, 0)
                buf[:] = b"0" * SIZE
                assert machine.io_submit(ctx, 1, [cb]) == 1
                assert machine.io_destroy(ctx) == 0
                assert buf[:] == b"1" * SIZE
                buf[:] = b"2" * SIZE
                assert buf[:] == b"2" * SIZE
        finally:
            machine.close(fd)

    machine.threads(*[worker] * THREADS)
