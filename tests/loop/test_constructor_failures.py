"""Constructors that fail at any step: the one error, and nothing left behind.

What they were given stays its owner's, and what they have opened is closed once: by the second
time the number may be another file's.
"""

import asyncio
import errno
import gc
import os
import resource
import socket
import sys
import warnings
from asyncio import selector_events
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.support.descriptors import open_count, open_files, rings, stranger_with
from tests.support.loops import until

import aiopoll

from . import uninitialised_child

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


def closed_by_refusals() -> list[str]:
    """The compiled classes that close a descriptor when they refuse their arguments.

    What is not set yet is 0, which is a descriptor, too.
    """
    loop = aiopoll.new_event_loop(backend="epoll")
    kinds = uninitialised_child.everything()
    found = []
    for kind in kinds:
        for arguments in ((), (None,), (loop,), (loop, None, 1), tuple("refused")):
            for options in ({}, {"refused": 1}):
                os.dup2(loop._csock.fileno(), 0)
                was = open_files()
                made = None
                try:
                    made = kind(*arguments, **options)
                except (TypeError, ValueError, AttributeError, OSError, RuntimeError, Warning):
                    pass
                if hasattr(made, "close") and not isinstance(made, type(loop)):
                    made.close()
                made = None
                gc.collect()
                if not was.items() <= open_files().items():
                    found.append(f"{kind.__module__}.{kind.__qualname__}{arguments}{options}")
    return found if len(kinds) > 50 else [f"only {kinds}"]


@pytest.mark.slow
@pytest.mark.subprocess
def test_refused_arguments_close_no_descriptor(in_child: Any) -> None:
    assert in_child(closed_by_refusals) == "[]"


class Planted(Exception):
    """What a signal handler raises, anywhere."""


@contextmanager
def interrupted_sockets() -> Iterator[list[int]]:
    """Socket objects fail half-made: once they have their number.  Yields the numbers."""
    numbers: list[int] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code is not socket.socket.__init__.__code__:
            return None
        number = frame.f_locals["self"].fileno()
        if event == "line" and number >= 0:
            numbers.append(number)
            raise Planted
        return trace

    sys.settrace(trace)
    try:
        yield numbers
    finally:
        sys.settrace(None)


def test_an_accepted_socket_that_fails_is_closed_once(loop: Any) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            with socket.create_connection(listener.getsockname()), interrupted_sockets() as numbers:
                try:
                    await loop.sock_accept(listener)
                except Planted as error:
                    sys.settrace(None)
                    with stranger_with(numbers[0]):
                        error.__traceback__ = None  # which holds the half-made socket
                else:
                    pytest.fail("it did not fail")

    loop.run_until_complete(main())


def test_an_accepted_connection_that_fails_is_closed_once(loop: Any, tmp_path: Path) -> None:
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))

    async def main() -> None:
        path = str(tmp_path / "socket")
        async with await loop.create_unix_server(asyncio.Protocol, path):
            with socket.socket(socket.AF_UNIX) as client, interrupted_sockets() as numbers:
                client.setblocking(False)
                client.connect_ex(path)
                await until(lambda: errors)
                sys.settrace(None)
                assert isinstance(errors[0]["exception"], Planted)
                with stranger_with(numbers[0]):
                    errors.clear()

    loop.run_until_complete(main())


def test_a_socket_object_that_fails_leaves_the_connection(loop: Any) -> None:
    made: list[asyncio.Transport] = []

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            made.append(transport)

        def data_received(self, data: bytes) -> None:
            made[0].write(data)

    async def main() -> None:
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, server.sockets[0].getsockname())
                await until(lambda: made)
                with interrupted_sockets(), pytest.raises(Planted):
                    made[0].get_extra_info("socket").fileno()
                gc.collect()
                await loop.sock_sendall(client, b"echo")
                assert await loop.sock_recv(client, 9) == b"echo"
                made[0].close()
                assert await loop.sock_recv(client, 9) == b""

    loop.run_until_complete(main())


def test_a_transport_that_fails_leaves_its_socket(loop: Any) -> None:
    class Failing(asyncio.Protocol):
        @property
        def __class__(self) -> Any:
            raise Planted

    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(Planted):
            loop._make_socket_transport(ours, Failing())
        gc.collect()
        theirs.send(b"x")
        assert ours.recv(9) == b"x"


@pytest.mark.subprocess
def test_a_pidfd_whose_close_is_interrupted_is_closed_once(
    loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []

    def close(fd: int) -> None:
        os_close(fd)
        closed.append(fd)
        raise Planted

    os_close = os.close

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
        transport: Any = process._transport  # type: ignore[attr-defined]
        with monkeypatch.context() as patched:
            patched.setattr("aiopoll.loop.subprocess.os.close", close)
            with pytest.raises(Planted):
                transport._unwatch()
        with stranger_with(closed[0]):
            transport._unwatch()
        transport._watch(process.pid)
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0

    loop.run_until_complete(main())
