"""Case 7: writes at the limit RLIMIT_FSIZE: short across it, EFBIG at it, none of 0 bytes."""

import errno

import pytest

from aiopoll.libaio import io_prep_pread, io_prep_pwrite

pytestmark = pytest.mark.subprocess

LIMIT = 8192
SIZE = 512


def test_writes_at_the_limit(machine, rw_fd: int, attempt) -> None:
    def body() -> None:
        machine.limit_file_size(LIMIT)
        ctx = machine.new_context()
        assert machine.io_queue_init(1, ctx) == 0
        buf = bytearray(SIZE)
        assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, LIMIT - SIZE) == SIZE
        assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, LIMIT - SIZE) == SIZE
        assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, LIMIT - SIZE + 1) == SIZE - 1
        assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, LIMIT - SIZE + 1) == SIZE - 1
        assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, LIMIT) == -errno.EFBIG
        assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, LIMIT) == 0
        assert attempt(ctx, io_prep_pwrite, rw_fd, buf, 0, LIMIT) == 0
        assert machine.io_destroy(ctx) == 0

    machine.in_child(body)
