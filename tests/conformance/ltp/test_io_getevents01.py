"""io_getevents01: waiting on a bad context: -EINVAL, and Context raises."""

import errno

import pytest

from aiopoll import Context
from aiopoll.libaio import io_event, timespec


def test_io_getevents01(machine) -> None:
    ctx = machine.new_context()
    assert machine.io_getevents(ctx, 0, 1, [io_event()], timespec(0)) == -errno.EINVAL
    assert machine.io_setup(1, ctx) == 0
    assert machine.io_destroy(ctx) == 0
    assert machine.io_getevents(ctx, 0, 1, [io_event()], timespec(0)) == -errno.EINVAL


def test_context() -> None:
    context = Context(1)
    context.close()
    with pytest.raises(ValueError, match="closed"):
        context.getevents(0, 0)
    with pytest.raises(ValueError, match="closed"):
        context.reap(0)
