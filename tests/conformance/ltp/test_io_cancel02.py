"""io_cancel02: cancelling NULL: libaio returns -EFAULT, be the context good or bad."""

import errno

from aiopoll.libaio import io_event


def test_io_cancel02(machine, ctx) -> None:
    assert machine.io_cancel(machine.new_context(), None, None) == -errno.EFAULT
    assert machine.io_cancel(None, None, None) == -errno.EFAULT
    assert machine.io_cancel(ctx, None, io_event()) == -errno.EFAULT
