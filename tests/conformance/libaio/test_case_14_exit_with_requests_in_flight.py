"""Case 14: a process with reads, writes and polls in flight does exit.

libaio's harness moves 768 MiB.  Here 8 MiB are in flight when the child exits, with O_DIRECT where
the file system has it, and so are the polls.
"""

import mmap
import os
import select
from pathlib import Path

import pytest

from aiopoll.libaio import io_prep_poll, io_prep_pread, io_prep_pwrite, iocb

pytestmark = pytest.mark.subprocess

SIZE = 8 * 1024 * 1024


def test_exit_with_requests_in_flight(machine, tmp_path: Path) -> None:
    path = tmp_path / "rwfile"
    machine.close(machine.open(path, os.O_RDWR | os.O_CREAT))

    def body() -> None:
        ctx = machine.new_context()
        assert machine.io_queue_init(64, ctx) == 0
        read_end, _write_end = machine.pipe()
        try:
            fd = machine.open(path, os.O_RDWR | os.O_DIRECT)
        except OSError:
            fd = machine.open(path, os.O_RDWR)
        buf = mmap.mmap(-1, SIZE)
        for i in range(10):
            poll, transfer = iocb(), iocb()
            io_prep_poll(poll, read_end, select.POLLIN)
            prep = io_prep_pread if i % 2 else io_prep_pwrite
            prep(transfer, fd, buf, SIZE, 0)
            assert machine.io_submit(ctx, 2, [poll, transfer]) == 2
        # The child ends here: nothing is reaped, cancelled or destroyed.

    machine.in_child(body)
