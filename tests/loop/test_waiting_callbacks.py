"""Callbacks and timers that wait by the hundred, which the collector does not see meanwhile.

However they leave the queue, nothing is lost.  Objects still referenced can be collected again, and
the others are freed.  (A context that the collector does not see would crash then.)
"""

import contextvars
import gc
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.threads import HAS_GIL

import aiopoll

WAITING = 500

variable: contextvars.ContextVar[object] = contextvars.ContextVar("variable")


class Payload:
    pass


def set_payload() -> "weakref.ref[Payload]":
    """Makes an object that the next context keeps alive."""
    payload = Payload()
    variable.set(payload)
    return weakref.ref(payload)


def run_all(loop: Any) -> None:
    pass


def cancel_all(loop: Any) -> None:
    for handle in list(loop._ready):
        handle.cancel()


def clear(loop: Any) -> None:
    loop._ready.clear()


def pop_each(loop: Any) -> None:
    while len(loop._ready):
        loop._ready.popleft()


def run_each(loop: Any) -> None:
    while len(loop._ready):
        loop._ready.popleft()._run()


def replace(loop: Any) -> None:
    loop._ready = deque()


def move(loop: Any) -> None:
    loop._ready = deque(loop._ready)


def debug(loop: Any) -> None:
    loop.set_debug(True)


def stop(loop: Any) -> None:
    loop.stop()


@pytest.mark.parametrize(
    "way_out", [run_all, cancel_all, clear, pop_each, run_each, replace, move, debug, stop]
)
@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
def test_contexts_are_seen_again_and_go(
    loop: aiopoll.EventLoop, way_out: Callable[[Any], None], keep: bool
) -> None:
    ran: list[int] = []
    payloads: list[weakref.ref[Payload]] = []
    kept: list[contextvars.Context] = []
    hidden = 0

    def fill() -> None:
        nonlocal hidden
        for number in range(WAITING):
            payloads.append(set_payload())
            handle = loop.call_soon(ran.append, number)
            hidden += not gc.is_tracked(handle._context)  # type: ignore[attr-defined]
            if keep:
                kept.append(handle._context)  # type: ignore[attr-defined]
        way_out(loop)

    loop.call_soon(fill)
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert hidden > WAITING // 2 or not HAS_GIL  # without one nothing is hidden
    loop.set_debug(False)
    if way_out in (run_all, run_each, move, debug):
        assert ran == list(range(WAITING))
    else:
        assert ran == []
    assert all(gc.is_tracked(context) for context in kept)
    assert all(gc.is_tracked(handle) for handle in loop._ready)
    assert all(gc.is_tracked(handle._context) for handle in loop._ready)
    kept.clear()
    loop._ready.clear()
    gc.collect()
    assert not any(payload() for payload in payloads[:-1])  # the last is set in this context


@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
@pytest.mark.parametrize("way_out", ["due", "swept", "next", "stop"])
def test_contexts_of_timers_are_seen_again_and_go(
    loop: aiopoll.EventLoop, way_out: str, keep: bool
) -> None:
    ran: list[int] = []
    payloads: list[weakref.ref[Payload]] = []
    handles: list[Any] = []
    hidden = 0

    def fill() -> None:
        nonlocal hidden
        for number in range(WAITING):
            payloads.append(set_payload())
            delay = 0.001 if way_out in ("due", "next") else 1000
            handle = loop.call_later(delay, ran.append, number)
            hidden += not gc.is_tracked(handle._context)  # type: ignore[attr-defined]
            if keep or way_out == "swept":
                handles.append(handle)
            elif way_out == "next":
                handle.cancel()
        if way_out == "swept":
            for handle in handles:
                handle.cancel()
            if not keep:
                handles.clear()
        loop.call_later(0.002, loop.stop)  # due after all others

    loop.call_soon(fill)
    loop.run_forever()
    assert hidden > WAITING // 5 or not HAS_GIL
    if way_out == "due" or (way_out == "next" and keep):
        assert ran == list(range(WAITING))
    else:
        assert ran == []
    assert all(gc.is_tracked(handle) for handle in handles)
    assert all(gc.is_tracked(handle._context) for handle in handles)
    for handle in handles:
        handle.cancel()
    handles.clear()
    if way_out != "stop":
        gc.collect()
        assert sum(payload() is not None for payload in payloads) <= WAITING // 4
