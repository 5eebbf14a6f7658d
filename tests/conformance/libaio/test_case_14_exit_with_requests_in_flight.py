"""Case 14: a process that ends with reads, writes and polls in flight does end.

libaio's harness moves 768 MiB; 8 MiB with O_DIRECT, where the file system has it, are in flight
when the child exits, and so are the polls.
"""

import mmap
import os
import select
from pathlib import Path

from aiopoll.libaio import (
    io_context_t,
    io_prep_poll,
    io_prep_pread,
    io_prep_pwrite,
    io_queue_init,
    io_submit,
    iocb,
)

SIZE = 8 * 1024 * 1024


def test_exit_with_requests_in_flight(tmp_path: Path, in_child) -> None:
    path = tmp_path / "rwfile"
    path.touch()

    def body() -> None:
        ctx = io_context_t()
        assert io_queue_init(64, ctx) == 0
        read_end, _write_end = os.pipe()
        try:
            fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        except OSError:
            fd = os.open(path, os.O_RDWR)
        buf = mmap.mmap(-1, SIZE)
        for i in range(10):
            poll, transfer = iocb(), iocb()
            io_prep_poll(poll, read_end, select.POLLIN)
            prep = io_prep_pread if i % 2 else io_prep_pwrite
            prep(transfer, fd, buf, SIZE, 0)
            assert io_submit(ctx, 2, [poll, transfer]) == 2
        # in_child ends with os._exit: nothing is reaped, cancelled or destroyed.

    in_child(body)
