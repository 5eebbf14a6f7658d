"""Threads that begin at once, and whose exceptions are the test's."""

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from .loops import CHILD_SECONDS_MAX

HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether a GIL guards what threads share."""

without_gil = pytest.mark.skipif(HAS_GIL, reason="skips.toml: no GIL")


def in_threads(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """Makes each call in a thread of its own, all at once; returns their results, in order."""
    todo = list(calls)
    begin = threading.Barrier(len(todo))
    results: list[Any] = [None] * len(todo)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            begin.wait(CHILD_SECONDS_MAX)
            results[number] = todo[number]()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(todo))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(CHILD_SECONDS_MAX)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return results
