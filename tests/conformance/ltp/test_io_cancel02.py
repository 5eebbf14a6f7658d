"""io_cancel02: cancelling NULL: libaio answers -EFAULT, be the context good or bad."""

import errno

from aiopoll.libaio import io_cancel, io_context_t, io_event


def test_io_cancel02(ctx: io_context_t) -> None:
    assert io_cancel(io_context_t(), None, None) == -errno.EFAULT
    assert io_cancel(None, None, None) == -errno.EFAULT
    assert io_cancel(ctx, None, io_event()) == -errno.EFAULT
