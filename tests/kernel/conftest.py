"""What the tests of the in-process kernel share."""

from collections.abc import Iterator

import pytest

from aiopoll.kernel import Kernel


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.halt()
