"""Case 8: as case 7, at the largest size the file system allows a file."""

import errno

import pytest

from aiopoll.libaio import io_prep_pread, io_prep_pwrite

SIZE = 512
OFFSET_MAX = 2**63 - 1


def largest_file_size(machine, fd: int) -> int:
    """By bisection: the lowest offset at which a byte cannot be written."""
    low, high = 0, OFFSET_MAX
    while high - low > 1:
        middle = (low + high) // 2
        try:
            machine.pwrite(fd, b"x", middle)
        except OSError:
            high = middle
        else:
            low = middle
    machine.ftruncate(fd, 0)
    return high


def test_writes_at_the_limit(machine, ctx, rw_fd: int, attempt, skip_reason) -> None:
    limit = largest_file_size(machine, rw_fd)
    if limit > OFFSET_MAX - 2 * SIZE:
        pytest.skip(skip_reason("libaio case 8: file systems without a limit"))
    buf = bytearray(SIZE)
    assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, limit - SIZE) == SIZE
    assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, limit - SIZE) == SIZE
    assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, limit - SIZE + 1) == SIZE - 1
    assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, limit - SIZE + 1) == SIZE - 1
    assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, limit) == -errno.EFBIG
    assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, limit) == 0
    assert attempt(ctx, io_prep_pwrite, rw_fd, buf, 0, limit) == 0
