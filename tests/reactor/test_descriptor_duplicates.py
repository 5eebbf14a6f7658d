"""A duplicate keeps a file open that its owner has closed: the loop has done with it even so."""

import asyncio
import errno
import socket
from contextlib import ExitStack
from typing import Any

import pytest
from tests.support.descriptors import stream_pair
from tests.support.loops import OURS
from tests.support.owners import WAITS, received, take, turns


@pytest.fixture(params=OURS)
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("by", ["object", "number"])
def test_duplicate_of_a_closed_file_makes_no_loop_spin(loop: Any, by: str) -> None:
    """It stays in the epoll set under a number that is another file's, or free, by then."""

    async def scenario(stack: ExitStack) -> None:
        ours, theirs = stream_pair()
        stack.callback(theirs.close)
        number = ours.fileno()
        calls: list[str] = []
        loop.add_reader(ours if by == "object" else number, calls.append, "dead")
        other, other_peer = stream_pair()
        stack.callback(other.close)
        stack.callback(other_peer.close)
        bystander = asyncio.ensure_future(loop.sock_recv(other, 100))
        await turns()
        duplicate = ours.dup()
        stack.callback(duplicate.close)
        ours.close()
        stranger, peer = take(number, stack)
        loop.add_reader(stranger, calls.append, "stranger")
        theirs.send(b"for the duplicate")
        await turns()
        assert calls == []
        assert loop.statistics().rebuilt == 1
        before = loop.statistics()
        await asyncio.sleep(0.05)
        assert loop.statistics().iterations - before.iterations < 10
        peer.send(b"x")
        await turns()
        assert set(calls) == {"stranger"}
        assert received(stranger) == b"x"
        assert loop.remove_reader(stranger)
        other_peer.send(b"still")
        assert await bystander == b"still"
        assert loop.statistics().rebuilt == 1

    with ExitStack() as stack:
        loop.run_until_complete(scenario(stack))


def test_reader_of_a_closed_file_has_one_more_call_at_most(loop: Any) -> None:
    """A duplicate keeps it ready: asyncio calls for ever."""

    async def scenario(stack: ExitStack) -> None:
        ours, theirs = stream_pair()
        stack.callback(theirs.close)
        calls: list[int] = []
        loop.add_reader(ours, calls.append, 1)
        await turns()
        stack.callback(ours.dup().close)
        ours.close()
        theirs.send(b"for the duplicate")
        for _ in range(10):
            await turns()
        assert calls == [1]

    with ExitStack() as stack:
        loop.run_until_complete(scenario(stack))


@pytest.mark.parametrize("call", WAITS)
def test_waiting_call_woken_by_a_duplicate_raises_ebadf(loop: Any, call: str) -> None:
    """The duplicate keeps the file waited for, while its number is another one's."""

    async def scenario(stack: ExitStack) -> None:
        ours, theirs = stream_pair()
        stack.callback(theirs.close)
        number = ours.fileno()
        waiting = asyncio.ensure_future(WAITS[call](loop, ours))
        await turns()
        stack.callback(ours.dup().close)
        ours.close()
        stranger, peer = take(number, stack)
        peer.send(b"the stranger's")
        theirs.send(b"wakes a reader")
        while received(theirs):
            pass  # wakes a writer
        with pytest.raises(OSError, match="Bad file descriptor"):
            await waiting
        assert received(stranger) == b"the stranger's"
        assert received(peer) is None

    with ExitStack() as stack:
        loop.run_until_complete(scenario(stack))


def test_listener_kept_by_a_duplicate_is_served_no_more(loop: Any) -> None:
    async def scenario(stack: ExitStack) -> None:
        reported: list[Any] = []
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"].errno))
        listener = socket.create_server(("127.0.0.1", 0))
        address, number = listener.getsockname(), listener.fileno()
        server = await loop.create_server(asyncio.Protocol, sock=listener)
        await turns()
        stack.callback(listener.dup().close)
        listener.close()
        stranger = socket.create_server(("127.0.0.1", 0))
        stack.callback(stranger.close)
        assert stranger.fileno() == number
        stranger.setblocking(False)
        for where in (stranger.getsockname(), address):
            stack.callback(socket.create_connection(where).close)
        await turns()
        assert reported == [errno.EBADF]
        stranger.accept()[0].close()  # it is still there
        server.close()

    with ExitStack() as stack:
        loop.run_until_complete(scenario(stack))
