"""Handles that have run are reused only if no code can observe it.

Only those made while the loop runs are reused: the bodies of the tests run in it.
"""

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest

import aiopoll


@pytest.fixture(params=["aio", "epoll", "asyncio"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def make(loop: aiopoll.EventLoop, timer: bool, callback: Any, *arguments: Any) -> asyncio.Handle:
    if timer:
        return loop.call_later(0, callback, *arguments)
    return loop.call_soon(callback, *arguments)


async def run(loop: aiopoll.EventLoop) -> None:
    """Runs all callbacks that wait or are due."""
    over = loop.create_future()
    loop.call_later(0, loop.call_soon, over.set_result, None)
    await over


both = pytest.mark.parametrize("timer", [False, True], ids=["handle", "timer"])


@both
def test_a_weak_reference_to_one_that_has_run_is_dead(loop: aiopoll.EventLoop, timer: bool) -> None:
    async def scenario() -> None:
        told: list[str] = []
        ran: list[int] = []
        handles = [make(loop, timer, ran.append, number) for number in range(100)]
        seen = [weakref.ref(handle, lambda _: told.append("dead")) for handle in handles]
        del handles
        await run(loop)
        gc.collect()
        assert ran == list(range(100))
        assert [reference() for reference in seen] == [None] * 100
        assert told == ["dead"] * 100

    loop.run_until_complete(scenario())


@both
def test_a_weak_reference_to_one_that_was_cancelled_is_dead(
    loop: aiopoll.EventLoop, timer: bool
) -> None:
    async def scenario() -> None:
        handle = make(loop, timer, print)
        seen = weakref.ref(handle)
        handle.cancel()
        del handle
        await run(loop)
        gc.collect()
        assert seen() is None

    loop.run_until_complete(scenario())


@both
def test_handle_with_a_reference_is_not_reused(loop: aiopoll.EventLoop, timer: bool) -> None:
    async def scenario() -> None:
        ran: list[int] = []
        kept = [make(loop, timer, ran.append, number) for number in range(100)]
        await run(loop)
        later = [make(loop, timer, ran.append, 100 + number) for number in range(100)]
        assert not {id(handle) for handle in kept} & {id(handle) for handle in later}
        for handle in kept:
            handle.cancel()
        await run(loop)
        assert ran == list(range(200))

    loop.run_until_complete(scenario())


@both
def test_cancelled_and_released_handle_leaves_nothing(loop: aiopoll.EventLoop, timer: bool) -> None:
    async def scenario() -> None:
        ran: list[int] = []
        for turn in range(3):
            for number in range(100):
                handle = make(loop, timer, ran.append, -1)
                handle.cancel()
                del handle
                make(loop, timer, ran.append, 100 * turn + number)
            await run(loop)
        assert ran == list(range(300))

    loop.run_until_complete(scenario())


@both
def test_each_has_the_context_that_it_was_given(loop: aiopoll.EventLoop, timer: bool) -> None:
    async def scenario() -> None:
        variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=-1)
        found: list[int] = []
        given = []
        for number in range(50):
            context = contextvars.copy_context()
            context.run(variable.set, number)
            given.append(context)

        def look() -> None:
            found.append(variable.get())
            variable.set(1000)

        for context in given:
            if timer:
                loop.call_later(0, look, context=context)
            else:
                loop.call_soon(look, context=context)
            make(loop, timer, look)  # in a copy of the current one
        await run(loop)
        assert found[::2] == list(range(50))
        assert found[1::2] == [-1] * 50
        assert [context[variable] for context in given] == [1000] * 50
        assert variable.get() == -1

    loop.run_until_complete(scenario())
