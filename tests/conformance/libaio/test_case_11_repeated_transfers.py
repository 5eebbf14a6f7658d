"""Case 11: the same page written and read over and over: slots are counted right.

libaio's harness does a million of each; 2,000 are some fifteen times round the ring.
"""

from aiopoll.libaio import io_prep_pread, io_prep_pwrite

COUNT = 2000
SIZE = 256


def test_repeated_transfers(ctx, rw_fd: int, attempt) -> None:
    buf = bytearray(SIZE)
    for prep in (io_prep_pwrite, io_prep_pread):
        for _ in range(COUNT):
            assert attempt(ctx, prep, rw_fd, buf, SIZE, 0) == SIZE
