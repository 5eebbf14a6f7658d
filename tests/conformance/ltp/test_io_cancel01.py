"""io_cancel01: cancelling with a bad context, or with a request that is not in flight."""

import errno

import pytest

from aiopoll import Context, Iocb
from aiopoll.libaio import io_event, io_prep_poll, iocb


def test_io_cancel01(machine, ctx) -> None:
    cb = iocb()
    io_prep_poll(cb, 0, 1)
    assert machine.io_cancel(ctx, None, io_event()) == -errno.EFAULT
    assert machine.io_cancel(ctx, cb, None) == -errno.EINVAL
    cb.key = 1
    assert machine.io_cancel(ctx, cb, None) == -errno.EINVAL
    assert machine.io_cancel(machine.new_context(), cb, None) == -errno.EINVAL


def test_context(context: Context) -> None:
    with pytest.raises(TypeError):
        context.cancel(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not in flight"):
        context.cancel(Iocb.poll(0, 1))
