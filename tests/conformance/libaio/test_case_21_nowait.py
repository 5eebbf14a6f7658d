"""Case 21: RWF_NOWAIT answers -EAGAIN where the transfer would have to wait.

A direct read of a block whose page is dirty in the page cache has to wait for its writeback;
after a direct write, which empties the cache, it has not.
"""

import errno
import mmap
import os
from pathlib import Path

import pytest

from aiopoll.libaio import io_context_t, io_prep_preadv2

SIZE = mmap.PAGESIZE


def direct_read_would_wait(fd: int, buf: mmap.mmap) -> bool:
    """preadv2(2) as the judge of what this file system does."""
    try:
        os.preadv(fd, [buf], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def test_nowait(ctx: io_context_t, tmp_path: Path, rw_fd: int, attempt, gap) -> None:
    reason = gap("libaio case 21: file systems without RWF_NOWAIT")
    buf = mmap.mmap(-1, SIZE)
    try:
        direct = os.open(tmp_path / "rwfile", os.O_RDWR | os.O_DIRECT)
    except OSError:
        pytest.skip(reason)
    try:
        os.pwrite(rw_fd, b"x" * SIZE, 0)
        if not direct_read_would_wait(direct, buf):
            pytest.skip(reason)
        os.pwrite(rw_fd, b"x" * SIZE, 0)
        result = attempt(ctx, io_prep_preadv2, direct, [buf], 1, 0, os.RWF_NOWAIT)
        assert result == -errno.EAGAIN
        buf[:] = b"y" * SIZE
        assert os.pwrite(direct, buf, 0) == SIZE
        result = attempt(ctx, io_prep_preadv2, direct, [buf], 1, 0, os.RWF_NOWAIT)
        assert result == SIZE
        assert buf[:] == b"y" * SIZE
    finally:
        os.close(direct)
