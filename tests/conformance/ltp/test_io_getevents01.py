"""io_getevents01: waiting on what is not a context: Context raises."""

import pytest

from aiopoll import Context


def test_io_getevents01() -> None:
    context = Context(1)
    context.close()
    with pytest.raises(ValueError, match="closed"):
        context.getevents(0, 0)
    with pytest.raises(ValueError, match="closed"):
        context.reap(0)
