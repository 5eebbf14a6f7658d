"""io_destroy02: a Context that is closed stays closed; closing it again does nothing."""

import pytest

from aiopoll import Context


def test_io_destroy02() -> None:
    context = Context(1)
    context.close()
    assert context.closed
    context.close()
    with pytest.raises(ValueError, match="closed"), context:
        pass
