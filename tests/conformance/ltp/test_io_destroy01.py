"""io_destroy01: destroying what is not a context: libaio answers -EINVAL."""

import errno

from aiopoll.libaio import io_context_t, io_destroy


def test_io_destroy01(ctx: io_context_t) -> None:
    assert io_destroy(io_context_t()) == -errno.EINVAL
    assert io_destroy(None) == -errno.EINVAL
    assert io_destroy(ctx) == 0
    assert io_destroy(ctx) == -errno.EINVAL
