"""io_destroy02: destroying a bad context; a Context that is closed stays closed."""

import errno

import pytest

from aiopoll import Context


def test_io_destroy02(machine) -> None:
    ctx = machine.new_context()
    assert machine.io_destroy(ctx) == -errno.EINVAL
    assert machine.io_setup(1, ctx) == 0
    assert machine.io_destroy(ctx) == 0
    assert machine.io_destroy(ctx) == -errno.EINVAL


def test_context() -> None:
    context = Context(1)
    context.close()
    assert context.closed
    context.close()
    with pytest.raises(ValueError, match="closed"), context:
        pass
