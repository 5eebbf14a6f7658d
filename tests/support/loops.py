"""The kinds of loop that tests run on."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import aiopoll

CHILD_SECONDS_MAX = 100  # an emulated machine is ten times slower


WAITS = ("set", "both")
"""Where a loop of backend "auto" has its files: in the epoll set, and there and on the ring."""


def waiting_loop(wait: str, **options: Any) -> aiopoll.EventLoop:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIOPOLL_WAIT", wait)
        return aiopoll.new_event_loop(backend="auto", **options)


LOOPS: dict[str, Callable[[], Any]] = {
    "aio": lambda: aiopoll.new_event_loop(backend="aio"),
    "one-slot": lambda: aiopoll.new_event_loop(backend="aio", nr_events=1),
    **{wait: partial(waiting_loop, wait) for wait in WAITS},
    "syscall-reap": lambda: aiopoll.new_event_loop(backend="aio"),
    "epoll": lambda: aiopoll.new_event_loop(backend="epoll"),
    "selector": lambda: asyncio.SelectorEventLoop(aiopoll.AioSelector()),
    "asyncio": asyncio.SelectorEventLoop,  # the oracle
}

OURS = ["aio", "one-slot", *WAITS, "epoll"]
"""Those that differ in how they wait."""

# The kinds on which asyncio itself does not touch, lose or wait for the wrong file.
on_asyncio_too = pytest.mark.parametrize("loop_kind", [*OURS, "asyncio"])


IS_3_11_2 = (
    asyncio.selector_events._SelectorDatagramTransport.pause_reading  # type: ignore[attr-defined]
    is asyncio.ReadTransport.pause_reading
)
"""Whether asyncio is as it was in Debian 12: its datagrams cannot pause."""
where_datagrams_pause = pytest.mark.skipif(
    IS_3_11_2, reason="Python 3.11.2 has no pause_reading() of datagrams"
)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0)
