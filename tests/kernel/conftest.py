"""Fixtures of the tests of the in-process kernel."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiopoll.kernel import Kernel

from .calls import LinuxCalls, Run


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.halt()


@pytest.fixture
def both(kernel: Kernel, tmp_path: Path) -> Iterator[Callable[[Callable[..., None]], None]]:
    """Run a scenario on this kernel and on the Linux underneath: the results must be equal."""
    linux = LinuxCalls(tmp_path)

    def compare(scenario: Callable[..., None]) -> None:
        here: Any = Run(kernel)
        scenario(kernel, here)
        there: Any = Run(linux, here.trace)
        scenario(linux, there)
        pairs = zip(here.trace, there.trace, strict=True)
        different = [pair for pair in pairs if pair[0] != pair[1]]
        assert not different, "\n".join(f"here {one}, on Linux {two}" for one, two in different)

    yield compare
    linux.halt()
