"""io_cancel01: cancelling what is not a request: Context raises."""

import pytest

from aiopoll import Context, Iocb


def test_io_cancel01(context: Context) -> None:
    with pytest.raises(TypeError):
        context.cancel(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not in flight"):
        context.cancel(Iocb.poll(0, 1))
