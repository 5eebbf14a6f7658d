"""Case 7: writes at the limit RLIMIT_FSIZE: short across it, EFBIG at it, none of 0 bytes."""

import errno
import resource
import signal

from aiopoll.libaio import (
    io_context_t,
    io_destroy,
    io_prep_pread,
    io_prep_pwrite,
    io_queue_init,
)

LIMIT = 8192
SIZE = 512


def test_writes_at_the_limit(rw_fd: int, attempt, in_child) -> None:
    def body() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
        ctx = io_context_t()
        assert io_queue_init(1, ctx) == 0
        buf = bytearray(SIZE)
        assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, LIMIT - SIZE) == SIZE
        assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, LIMIT - SIZE) == SIZE
        assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, LIMIT - SIZE + 1) == SIZE - 1
        assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, LIMIT - SIZE + 1) == SIZE - 1
        assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, LIMIT) == -errno.EFBIG
        assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, LIMIT) == 0
        assert attempt(ctx, io_prep_pwrite, rw_fd, buf, 0, LIMIT) == 0
        assert io_destroy(ctx) == 0

    in_child(body)
