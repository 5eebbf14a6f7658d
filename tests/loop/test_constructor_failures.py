"""Constructors that fail at any step: the one error, and nothing left behind."""

import errno
import gc
import os
import resource
import sys
import warnings
from asyncio import selector_events
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.descriptors import open_count, rings

import aiopoll

MAKERS: dict[str, Callable[[], Any]] = {
    "auto": aiopoll.new_event_loop,
    "aio": lambda: aiopoll.new_event_loop(backend="aio"),
    "aio-of-its-own-size": lambda: aiopoll.new_event_loop(backend="aio", nr_events=77),
    "epoll": lambda: aiopoll.new_event_loop(backend="epoll"),
    "selector": lambda: aiopoll.AioSelector(4),
}
STEPS_MAX = 12  # more than the descriptors that any of them takes


def failures(make: Callable[[], Any]) -> str:
    """Its outcomes with no descriptor, with one, with two, … until it succeeds."""
    complaints: list[str] = []
    sys.unraisablehook = lambda unraisable: complaints.append(repr(unraisable.exc_value))
    warnings.simplefilter("error")
    make().close()  # for imports and caches of the first use
    gc.collect()
    was = open_count(), rings()
    spare = [os.dup(0) for _ in range(STEPS_MAX)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for free in range(STEPS_MAX):
        given = spare[STEPS_MAX - free :]
        for fd in given:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare[-1] + 1, hard))
        made = error = None
        try:
            made = make()
        except OSError as failure:
            error = failure.errno, repr(failure.__context__)
        gc.collect()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if made is not None:
            made.close()
        for fd in given:
            os.dup2(0, fd)
        if complaints:
            return f"with {free} descriptors: {complaints}"
        if made is not None:
            break
        if error != (errno.EMFILE, "None"):
            return f"with {free} descriptors: {error}"
    else:
        return "it needs more descriptors than thought"
    for fd in spare:
        os.close(fd)
    gc.collect()
    now = open_count(), rings()
    # One context may be kept for the next loop.
    return "clean" if now[0] == was[0] and now[1] <= max(was[1], 1) else f"{was} before, {now} now"


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("kind", MAKERS)
def test_without_descriptors_left(kind: str, in_child: Any) -> None:
    assert in_child(lambda: failures(MAKERS[kind])) == "'clean'"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no room"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["_make_self_pipe", "_add_reader"])
@pytest.mark.parametrize("backend", ["aio", "epoll"])
def test_asyncios_constructor_fails(
    backend: str, step: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    owner: Any = (
        selector_events.BaseSelectorEventLoop if step.startswith("_make") else aiopoll.EventLoop
    )
    aiopoll.new_event_loop(backend=backend).close()
    was = open_count()
    with monkeypatch.context() as patched:
        patched.setattr(owner, step, fail)
        with pytest.raises(type(error)):
            aiopoll.new_event_loop(backend=backend)
    gc.collect()  # pytest makes errors of a finalizer's warnings and exceptions
    assert open_count() == was


def test_a_selector_that_was_not_made_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(errno.EMFILE, "none left")

    monkeypatch.setattr("aiopoll.selector.EpollSet", fail)
    selector = aiopoll.AioSelector.__new__(aiopoll.AioSelector)
    with pytest.raises(OSError, match="none left"):
        selector.__init__(1)  # type: ignore[misc]
    selector.close()
    with pytest.raises(ValueError, match="closed"):
        selector.select(0)
