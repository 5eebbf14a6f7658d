"""io_setup01: libaio's io_setup succeeds, and says what is wrong with its arguments."""

import errno

from aiopoll.libaio import io_context_t, io_destroy, io_setup


def test_io_setup01() -> None:
    ctx = io_context_t()
    assert io_setup(1, ctx) == 0
    assert io_destroy(ctx) == 0
    assert io_setup(1, ctx) == -errno.EINVAL  # not NULL: the stale handle is still in it
    assert io_setup(-1, io_context_t()) == -errno.EINVAL
    assert io_setup(1, None) == -errno.EFAULT
