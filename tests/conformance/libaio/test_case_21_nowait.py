"""Case 21: RWF_NOWAIT completes with -EAGAIN where the transfer would have to wait.

A direct read of a block whose page is dirty in the page cache has to wait for its writeback.  After
a direct write, which empties the cache, it does not wait.
"""

import errno
import mmap
import os
from pathlib import Path

import pytest

from aiopoll.libaio import io_prep_preadv2

SIZE = mmap.PAGESIZE


def test_nowait(machine, ctx, tmp_path: Path, rw_fd: int, attempt, skip_reason) -> None:
    buf = mmap.mmap(-1, SIZE)
    try:
        direct = machine.open(tmp_path / "rwfile", os.O_RDWR | os.O_DIRECT)
    except OSError:
        pytest.skip(skip_reason("libaio case 21: file systems without RWF_NOWAIT"))
    try:
        machine.pwrite(rw_fd, b"x" * SIZE, 0)
        if not machine.direct_read_would_wait(direct, buf):
            pytest.skip(skip_reason("libaio case 21: file systems without RWF_NOWAIT"))
        machine.pwrite(rw_fd, b"x" * SIZE, 0)
        result = attempt(ctx, io_prep_preadv2, direct, [buf], 1, 0, os.RWF_NOWAIT)
        assert result == -errno.EAGAIN
        buf[:] = b"y" * SIZE
        assert machine.pwrite(direct, buf, 0) == SIZE
        result = attempt(ctx, io_prep_preadv2, direct, [buf], 1, 0, os.RWF_NOWAIT)
        assert result == SIZE
        assert buf[:] == b"y" * SIZE
    finally:
        machine.close(direct)
