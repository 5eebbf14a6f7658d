"""Case 6: one huge write and one huge read.

libaio's harness takes up to 768 MiB; 32 MiB are many times the largest piece of a kernel.
"""

import mmap

from aiopoll.libaio import io_prep_pread, io_prep_pwrite

SIZE = 32 * 1024 * 1024


def test_huge_transfer(ctx, rw_fd: int, attempt) -> None:
    with mmap.mmap(-1, SIZE) as buf:
        buf[-4:] = b"last"
        assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, 0) == SIZE
        buf[-4:] = bytes(4)
        assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, 0) == SIZE
        assert buf[-4:] == b"last"
