"""The debug build reports leaks at close: the tests leak something, and read the report."""

import asyncio
import ctypes
import gc
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import aiopoll
from aiopoll import Context, Iocb
from aiopoll.aio import context_cache

pytestmark = pytest.mark.skipif(
    os.environ.get("AIOPOLL_DEBUG") != "1",
    reason="skips.toml: the debug build's checks at close",
)

IO_GETEVENTS = {"x86_64": 208, "aarch64": 4}
READER, WRITER = 0, 1


def rings() -> set[int]:
    """The addresses of the AIO rings that are mapped: each is a context."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return {int(line.split("-")[0], 16) for line in maps if "[aio]" in line}


def steal_events(context: int) -> int:
    """Takes the events of a ring, as no program should; returns their number."""
    events = ctypes.create_string_buffer(32 * 64)
    number = IO_GETEVENTS[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(number, ctypes.c_ulong(context), 0, 64, events, None))


def epoll_sets() -> set[int]:
    """The descriptors of epoll sets."""
    return {
        int(path.name)
        for path in Path("/proc/self/fd").iterdir()
        if path.is_symlink() and str(path.readlink()) == "anon_inode:[eventpoll]"
    }


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield ends
    for fd in ends:
        os.close(fd)


def turn(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_request_whose_event_was_stolen_is_reported(pipe: tuple[int, int]) -> None:
    context_cache.release()  # so that the loop makes its own
    before = rings()
    loop = aiopoll.new_event_loop(backend="aio")
    (context,) = rings() - before
    loop.add_reader(pipe[READER], list)
    turn(loop)
    os.write(pipe[WRITER], b"x")
    assert steal_events(context) >= 1
    with pytest.raises(AssertionError, match="a request and its slot leaked"):
        loop.close()


def test_descriptor_that_other_code_closed_is_reported() -> None:
    before = epoll_sets()
    loop = aiopoll.new_event_loop(backend="epoll")
    (epoll_fd,) = epoll_sets() - before
    os.close(epoll_fd)
    with pytest.raises(AssertionError, match="other code has closed"):
        loop.close()


def lose_a_free_one(completions: list[object]) -> None:
    completions.append(completions[0])


def forget_one_in_flight(completions: list[object]) -> None:
    completions.pop()


@pytest.mark.parametrize("damage", [lose_a_free_one, forget_one_in_flight])
def test_lost_completion_is_reported(
    damage: Callable[[list[object]], None], pipe: tuple[int, int]
) -> None:
    context = Context(4)
    context.submit([Iocb.poll(pipe[READER], select.POLLIN)])
    (completions,) = [each for each in gc.get_referents(context) if type(each) is list]
    kept = list(completions)
    damage(completions)
    with pytest.raises(AssertionError, match="a completion was lost"):
        context.close()
    completions[:] = kept
    context.close()


@pytest.mark.parametrize("backend", ["aio", "epoll"])
def test_loop_closed_with_all_kinds_of_files_leaks_nothing(backend: str) -> None:
    loop = aiopoll.new_event_loop(backend=backend)
    pairs = [socket.socketpair() for _ in range(600)]  # more than there are slots
    for ours, theirs in pairs:
        ours.setblocking(False)
        theirs.send(b"x")
        loop.add_reader(ours, ours.recv, 1)
        loop.add_writer(ours, list)
    turn(loop)
    for ours, _ in pairs[::2]:
        loop.remove_reader(ours)
    turn(loop)
    for ours, theirs in pairs[:100]:
        loop.add_reader(theirs, list)  # queued, and never submitted
        ours.send(b"x")
    loop.close()
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
