"""Callbacks with an invalid context or arguments, and files without a number."""

import asyncio
import gc
import socket
from typing import Any

import pytest
from tests.support.loops import LOOPS

KINDS = ["aio", "epoll", "asyncio"]
COUNT = 200  # so many that contexts are hidden from the collector


@pytest.fixture(params=KINDS)
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def told(loop: Any) -> list[str]:
    """The reports to the exception handler."""
    messages: list[str] = []
    loop.set_exception_handler(lambda _, context: messages.append(context["message"]))
    return messages


@pytest.mark.parametrize("call", ["call_soon", "call_soon_threadsafe", "call_at"])
@pytest.mark.parametrize("within", [False, True], ids=["before-run", "while-running"])
def test_a_context_that_is_none_is_reported(loop: Any, call: str, within: bool) -> None:
    messages, ran = told(loop), []
    odd: list[Any] = [14, "text", b"", (), object()]

    def schedule() -> None:
        when = (0,) if call == "call_at" else ()
        for i in range(COUNT):
            getattr(loop, call)(*when, ran.append, 1, context=odd[i % len(odd)])
        loop.call_later(0, loop.stop)

    if within:
        loop.call_soon(schedule)
    else:
        schedule()
    loop.run_forever()
    gc.collect()
    assert ran == []
    assert len(messages) == COUNT


def test_handles_whose_arguments_are_a_list_or_nothing(loop: Any) -> None:
    messages, ran = told(loop), []
    loop._ready.append(asyncio.Handle(lambda *args: ran.append(args), [1, 2], loop))  # type: ignore[arg-type]
    loop._ready.append(asyncio.Handle(ran.append, None, loop))  # type: ignore[arg-type]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == [(1, 2)]
    assert len(messages) == 1


@pytest.mark.parametrize("kind", ["aio", "epoll"])
def test_a_listener_that_was_closed_is_refused(kind: str) -> None:
    """Its number is -1, and so is the result of the object's fileno()."""
    loop = LOOPS[kind]()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    listener.close()
    try:
        with pytest.raises((OSError, ValueError)):
            loop._start_serving(asyncio.Protocol, listener)
    finally:
        loop.close()
