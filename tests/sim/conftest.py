"""Fixtures of the simulator's tests."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def what_was_frozen_is_so_again() -> Iterator[None]:
    """A run ends with gc.unfreeze(), also of what tests/conftest.py has frozen."""
    yield
    gc.collect()
    gc.freeze()
