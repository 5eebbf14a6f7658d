"""io_getevents02: waiting on what is not a context: libaio answers -EINVAL."""

import errno

from aiopoll.libaio import io_context_t, io_getevents


def test_io_getevents02() -> None:
    assert io_getevents(io_context_t(), 0, 0, None, None) == -errno.EINVAL
    assert io_getevents(None, 0, 0, None, None) == -errno.EINVAL
