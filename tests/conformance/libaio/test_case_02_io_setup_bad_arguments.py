"""Case 2: io_setup with a bad context pointer, with too few events, and on a live context."""

import errno


def test_bad_pointer_comes_before_bad_count(machine) -> None:
    for maxevents in (-1000, 1000, 0):
        assert machine.io_setup(maxevents, None) == -errno.EFAULT


def test_maxevents_not_positive(machine) -> None:
    ctx = machine.new_context()
    for maxevents in (-1000, -1, 0):
        assert machine.io_setup(maxevents, ctx) == -errno.EINVAL
        assert not ctx


def test_context_that_is_in_use(machine) -> None:
    ctx = machine.new_context()
    assert machine.io_setup(1, ctx) == 0
    assert machine.io_setup(1, ctx) == -errno.EINVAL
    assert machine.io_destroy(ctx) == 0
