"""io_setup01: libaio's io_setup succeeds, and returns the errno of bad arguments."""

import errno


def test_io_setup01(machine) -> None:
    ctx = machine.new_context()
    assert machine.io_setup(1, ctx) == 0
    assert machine.io_destroy(ctx) == 0
    assert machine.io_setup(1, ctx) == -errno.EINVAL  # not NULL: the stale handle is still in it
    assert machine.io_setup(-1, machine.new_context()) == -errno.EINVAL
    assert machine.io_setup(1, None) == -errno.EFAULT
