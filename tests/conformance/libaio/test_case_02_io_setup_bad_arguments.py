"""Case 2: io_setup with a bad context pointer, with too few events, and on a live context."""

import errno

from aiopoll.libaio import io_context_t, io_destroy, io_setup


def test_bad_pointer_comes_before_bad_count() -> None:
    for maxevents in (-1000, 1000, 0):
        assert io_setup(maxevents, None) == -errno.EFAULT


def test_maxevents_not_positive() -> None:
    ctx = io_context_t()
    for maxevents in (-1000, -1, 0):
        assert io_setup(maxevents, ctx) == -errno.EINVAL
        assert not ctx


def test_context_that_is_in_use() -> None:
    ctx = io_context_t()
    assert io_setup(1, ctx) == 0
    assert io_setup(1, ctx) == -errno.EINVAL
    assert io_destroy(ctx) == 0
