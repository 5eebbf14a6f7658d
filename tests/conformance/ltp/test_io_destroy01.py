"""io_destroy01: destroying a bad context: libaio returns -EINVAL."""

import errno


def test_io_destroy01(machine, ctx) -> None:
    assert machine.io_destroy(machine.new_context()) == -errno.EINVAL
    assert machine.io_destroy(None) == -errno.EINVAL
    assert machine.io_destroy(ctx) == 0
    assert machine.io_destroy(ctx) == -errno.EINVAL
