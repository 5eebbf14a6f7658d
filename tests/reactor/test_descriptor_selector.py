"""Selectors and numbers that change hands: no other file is reported, or kept open."""

import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from selectors import EVENT_READ, EVENT_WRITE

import pytest

from aiopoll import AioSelector

SECONDS_MAX = 60


@pytest.fixture
def selector(user_ring: bool) -> Iterator[AioSelector]:
    with AioSelector(user_ring=user_ring) as selector:
        yield selector


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        stack.enter_context(sock)
        sock.settimeout(SECONDS_MAX)
    return ours, theirs


def hand_over(sock: socket.socket, to: socket.socket, stack: ExitStack) -> socket.socket:
    """Gives the number of `sock` to the file of `to`; `sock` lives on under the returned number."""
    kept = stack.enter_context(sock.dup())
    fd = sock.detach()
    os.dup2(to.fileno(), fd)
    stack.callback(os.close, fd)
    return kept


@pytest.mark.parametrize("make", [selectors.EpollSelector, AioSelector])
def test_the_peer_sees_the_close_of_a_registered_file(
    make: Callable[[], selectors.BaseSelector], stack: ExitStack
) -> None:
    ours, theirs = pair(stack)
    with make() as selector:
        selector.register(ours, EVENT_READ)
        assert selector.select(0) == []
        ours.close()
        assert theirs.recv(1) == b""
        assert selector.select(0) == []
        assert selector.unregister(ours).fileobj is ours


def test_close_in_another_thread_is_seen_during_select(
    selector: AioSelector, stack: ExitStack
) -> None:
    ours, theirs = pair(stack)
    others, signal = pair(stack)
    selector.register(ours, EVENT_READ)
    selector.register(others, EVENT_READ)
    seen = []

    def close() -> None:
        ours.close()
        seen.append(theirs.recv(1))
        signal.send(b"x")

    thread = threading.Thread(target=close)
    thread.start()
    assert [key.fileobj for key, _ in selector.select(SECONDS_MAX)] == [others]
    thread.join(SECONDS_MAX)
    assert seen == [b""]


@pytest.mark.parametrize("as_number", [True, False])
def test_a_duplicate_does_not_report_its_old_number(
    selector: AioSelector, stack: ExitStack, as_number: bool
) -> None:
    ours, theirs = pair(stack)
    stranger, _ = pair(stack)
    fd = ours.fileno()
    selector.register(fd if as_number else ours, EVENT_READ)
    assert selector.select(0) == []
    kept = hand_over(ours, stranger, stack)
    theirs.send(b"x")
    assert selector.select(0) == []
    assert selector.statistics().stale == 1
    assert kept.recv(1) == b"x"


def test_duplicate_of_a_closed_file_makes_no_select_spin(
    selector: AioSelector, stack: ExitStack
) -> None:
    ours, theirs = pair(stack)
    stack.enter_context(ours.dup())
    selector.register(ours, EVENT_READ)
    ours.close()
    theirs.send(b"x")
    before = selector.statistics()
    for _ in range(20):
        assert selector.select(0.001) == []
    after = selector.statistics()
    assert after.stale - before.stale == 1
    # Parked at the first select, whose request the one event has completed, and from then on.
    assert after.context.submit_calls - before.context.submit_calls <= 2


def test_an_event_that_comes_after_unregister_is_nobodys(
    selector: AioSelector, stack: ExitStack
) -> None:
    ours, theirs = pair(stack)
    stranger, peer = pair(stack)
    fd = ours.fileno()
    selector.register(ours, EVENT_READ)
    hand_over(ours, stranger, stack)
    selector.unregister(fd)
    selector.register(fd, EVENT_READ, "stranger")
    theirs.send(b"x")
    assert selector.select(0) == []
    peer.send(b"y")
    assert [key.data for key, _ in selector.select(SECONDS_MAX)] == ["stranger"]


def test_fd_is_registered_anew_once_it_names_another_file(
    selector: AioSelector, stack: ExitStack
) -> None:
    ours, theirs = pair(stack)
    stranger, peer = pair(stack)
    fd = ours.fileno()
    selector.register(ours, EVENT_READ, "ours")
    with pytest.raises(KeyError, match="already registered"):
        selector.register(fd, EVENT_READ)
    hand_over(ours, stranger, stack)
    with pytest.raises(KeyError, match="already registered"):
        selector.register(ours, EVENT_READ)
    selector.register(fd, EVENT_READ, "stranger")
    theirs.send(b"x")
    peer.send(b"y")
    assert [key.data for key, _ in selector.select(SECONDS_MAX)] == ["stranger"]
    with pytest.raises(ValueError, match="not a file descriptor"):
        selector.unregister(ours)


def test_modify_is_of_the_file_that_has_the_number_now(
    selector: AioSelector, stack: ExitStack
) -> None:
    ours, theirs = pair(stack)
    stranger, peer = pair(stack)
    fd = ours.fileno()
    selector.register(fd, EVENT_READ, "ours")
    hand_over(ours, stranger, stack)
    selector.modify(fd, EVENT_READ, "stranger")
    theirs.send(b"x")
    assert selector.select(0) == []
    peer.send(b"y")
    assert [key.data for key, _ in selector.select(SECONDS_MAX)] == ["stranger"]


@pytest.mark.parametrize("make", [selectors.EpollSelector, AioSelector])
def test_modify_of_a_closed_file_forgets_it(
    make: Callable[[], selectors.BaseSelector], stack: ExitStack
) -> None:
    ours, _ = pair(stack)
    with make() as selector:
        selector.register(ours, EVENT_READ)
        ours.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            selector.modify(ours, EVENT_WRITE)
        assert len(selector.get_map()) == 0


@pytest.mark.parametrize("make", [selectors.EpollSelector, AioSelector])
def test_a_file_that_gets_its_number_back_is_reported_again(
    make: Callable[[], selectors.BaseSelector], stack: ExitStack
) -> None:
    ours, theirs = pair(stack)
    stranger, _ = pair(stack)
    fd = ours.fileno()
    with make() as selector:
        selector.register(fd, EVENT_READ)
        kept = hand_over(ours, stranger, stack)
        theirs.send(b"x")
        selector.select(0)  # EpollSelector reports it here already
        os.dup2(kept.fileno(), fd)
        for _ in range(2):
            assert [key.fd for key, _ in selector.select(SECONDS_MAX)] == [fd]


def test_an_interrupt_in_select_loses_no_file(selector: AioSelector, stack: ExitStack) -> None:
    pairs = [pair(stack) for _ in range(3)]
    for ours, theirs in pairs:
        selector.register(ours, EVENT_READ)
        theirs.send(b"x")
    taken = selector._set.ready(2)  # as by a select that an exception has ended
    assert len(taken) == 2
    assert len(selector.select(SECONDS_MAX)) == 3


def test_file_is_registered_again_when_its_fd_returns(
    selector: AioSelector, stack: ExitStack
) -> None:
    ours, theirs = pair(stack)
    stranger, _ = pair(stack)
    fd = ours.fileno()
    selector.register(fd, EVENT_READ, "before")
    kept = hand_over(ours, stranger, stack)
    selector.unregister(fd)  # reaches only the stranger
    os.dup2(kept.fileno(), fd)
    selector.register(fd, EVENT_READ, "after")
    theirs.send(b"x")
    assert [key.data for key, _ in selector.select(SECONDS_MAX)] == ["after"]
