"""The kinds of loop that tests run on."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import aiopoll

CHILD_SECONDS_MAX = 100  # an emulated machine is ten times slower

LOOPS: dict[str, Callable[[], Any]] = {
    "aio": lambda: aiopoll.new_event_loop(backend="aio"),
    "one-slot": lambda: aiopoll.new_event_loop(backend="aio", nr_events=1),
    "syscall-reap": lambda: aiopoll.new_event_loop(backend="aio"),
    "epoll": lambda: aiopoll.new_event_loop(backend="epoll"),
    "selector": lambda: asyncio.SelectorEventLoop(aiopoll.AioSelector()),
    "asyncio": asyncio.SelectorEventLoop,  # the oracle
}

OURS = ["aio", "one-slot", "epoll"]
"""Those that differ in how they wait."""

# The kinds on which asyncio itself does not touch, lose or wait for the wrong file.
on_asyncio_too = pytest.mark.parametrize("loop_kind", [*OURS, "asyncio"])


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0)
