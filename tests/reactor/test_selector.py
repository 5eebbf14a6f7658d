"""AioSelector beyond CPython's selector tests: kinds of files, cost, staleness."""

import array
import fcntl
import os
import pty
import selectors
import socket
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from selectors import EVENT_READ, EVENT_WRITE

import pytest

from aiopoll import AioSelector


@pytest.fixture
def selector(user_ring: bool) -> Iterator[AioSelector]:
    with AioSelector(16, user_ring=user_ring) as selector:
        yield selector


def ready_fds(selector: AioSelector, timeout: float | None = 0) -> set[int]:
    return {key.fd for key, _ in selector.select(timeout)}


def test_readiness_is_level_triggered(selector: AioSelector, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    selector.register(reader, EVENT_READ)
    os.write(writer, b"ab")
    for _ in range(3):
        assert ready_fds(selector) == {reader}
    os.read(reader, 2)
    assert ready_fds(selector) == set()


def test_data_read_between_two_selects_is_not_reported(
    selector: AioSelector, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    selector.register(reader, EVENT_READ)
    assert ready_fds(selector) == set()  # the request is parked now
    os.write(writer, b"x")  # completes it
    os.read(reader, 1)  # and its event is stale
    assert ready_fds(selector) == set()
    os.write(writer, b"y")
    assert ready_fds(selector, None) == {reader}


def registered_pairs(
    count: int, selector: AioSelector, stack: ExitStack
) -> list[tuple[socket.socket, socket.socket]]:
    """Pairs of sockets, the first of each registered for reading, closed with the stack."""
    pairs = [socket.socketpair() for _ in range(count)]
    for ours, theirs in pairs:
        stack.enter_context(ours)
        stack.enter_context(theirs)
        selector.register(ours, EVENT_READ)
    return pairs


def test_idle_files_cost_nothing(user_ring: bool) -> None:
    with ExitStack() as stack, AioSelector(user_ring=user_ring) as selector:
        pairs = registered_pairs(400, selector, stack)
        assert selector.select(0) == []
        before = selector.statistics()
        assert before.registered == 400
        assert (before.context.nr_events, before.context.in_flight) == (1, 1)
        for _ in range(10):
            assert selector.select(0) == []
        after = selector.statistics()
        assert after.context.submit_calls == before.context.submit_calls
        if user_ring:  # a look at memory
            assert after.context.getevents_calls == before.context.getevents_calls
        for ours, theirs in pairs:
            theirs.send(b"x")
            assert ready_fds(selector, None) == {ours.fileno()}
            ours.recv(1)
        for _, theirs in pairs:
            theirs.send(b"x")
        assert ready_fds(selector, None) == {ours.fileno() for ours, _ in pairs}
        for ours, _ in pairs[:200]:
            selector.unregister(ours)
        assert ready_fds(selector) == {ours.fileno() for ours, _ in pairs[200:]}


def test_terminals(selector: AioSelector) -> None:
    master, slave = pty.openpty()
    with ExitStack() as stack:
        stack.callback(os.close, master)
        stack.callback(os.close, slave)
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        selector.register(slave, EVENT_READ)
        selector.register(master, EVENT_READ)
        assert selector.select(0) == []
        os.write(master, b"x")
        assert ready_fds(selector, None) == {slave}
        os.read(slave, 1)
        assert ready_fds(selector) == set()
        selector.modify(master, EVENT_READ | EVENT_WRITE)
        assert selector.select(0) == [(selector.get_key(master), EVENT_WRITE)]


def test_a_fifo_opened_for_both(selector: AioSelector, tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "fifo")
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        selector.register(fd, EVENT_READ)
        assert ready_fds(selector) == set()
        os.write(fd, b"x")
        assert ready_fds(selector, None) == {fd}
        selector.unregister(fd)
        assert ready_fds(selector) == set()
    finally:
        os.close(fd)


@pytest.mark.subprocess
def test_a_signalfd(user_ring: bool) -> None:
    # In a child, for a blocked signal must not reach the other threads of a test run.
    program = f"""
import ctypes, os, signal
from selectors import EVENT_READ
from aiopoll import AioSelector
libc = ctypes.CDLL(None, use_errno=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
mask = (ctypes.c_ulong * 16)(1 << (signal.SIGUSR1 - 1))
fd = libc.signalfd(-1, mask, os.O_NONBLOCK)
assert fd >= 0
with AioSelector(16, user_ring={user_ring}) as selector:
    selector.register(fd, EVENT_READ)
    assert selector.select(0) == []
    os.kill(os.getpid(), signal.SIGUSR1)
    assert [key.fd for key, _ in selector.select()] == [fd]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("path", ["/dev/null", tempfile.gettempdir(), __file__])
def test_file_that_epoll_refuses_is_refused(selector: AioSelector, path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(PermissionError):
            selector.register(fd, EVENT_READ)
        assert len(selector.get_map()) == 0
    finally:
        os.close(fd)


def test_a_descriptor_that_is_not_open_is_refused(selector: AioSelector) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        selector.register(reader, EVENT_READ)


@pytest.mark.parametrize("events", [0, 4, 0x10000, -1])
def test_unknown_events_are_refused(selector: AioSelector, events: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(ValueError, match="EVENT_READ"):
            selector.register(ours, events)
        selector.register(ours, EVENT_READ)
        with pytest.raises(ValueError, match="EVENT_READ"):
            selector.modify(ours, events)


def test_file_closed_without_unregister_harms_no_other(
    selector: AioSelector, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    ours, theirs = socket.socketpair()
    with theirs:
        selector.register(ours, EVENT_READ)
        selector.register(reader, EVENT_READ)
        selector.select(0)
        theirs.send(b"x")
        fd = ours.fileno()
        ours.close()
        os.write(writer, b"y")
        # The closed file's event came before, and is dropped: its number is free now.
        assert ready_fds(selector, None) == {reader}
        os.read(reader, 1)
        assert ready_fds(selector) == set()
        selector.unregister(fd)
        os.write(writer, b"y")
        assert ready_fds(selector, None) == {reader}


def test_unregister_lets_the_peer_see_the_close(selector: AioSelector) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        selector.register(ours, EVENT_READ)
        selector.select(0)
        selector.unregister(ours)
        ours.close()
        theirs.settimeout(60)
        assert theirs.recv(1) == b""


def test_a_reused_number_never_gets_the_old_files_events(selector: AioSelector) -> None:
    for _ in range(200):
        ours, theirs = socket.socketpair()
        selector.register(ours, EVENT_READ, "first")
        selector.select(0)
        theirs.send(b"x")  # its event is in the ring when the number is reused
        selector.unregister(ours)
        fd = ours.fileno()
        ours.close()
        again, peer = socket.socketpair()
        assert fd in (again.fileno(), peer.fileno())
        selector.register(again, EVENT_READ, "second")
        selector.register(peer, EVENT_READ, "second")
        assert selector.select(0) == []
        for sock in (again, peer):
            selector.unregister(sock)
            sock.close()
        theirs.close()


def test_hang_up_wakes_readers_and_writers(selector: AioSelector, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    selector.register(reader, EVENT_READ)
    selector.select(0)
    os.close(writer)
    assert selector.select(None) == [(selector.get_key(reader), EVENT_READ)]
    assert selector.select(0) == [(selector.get_key(reader), EVENT_READ)]


def test_the_end_of_a_full_pipe_wakes_its_writer(
    selector: AioSelector, pipe: tuple[int, int]
) -> None:
    """Only an error is ready: there is no room."""
    reader, writer = pipe
    try:
        while True:
            os.write(writer, bytes(65536))
    except BlockingIOError:
        pass
    selector.register(writer, EVENT_WRITE)
    assert selector.select(0) == []
    os.close(reader)
    assert selector.select(10) == [(selector.get_key(writer), EVENT_WRITE)]


def test_urgent_data_alone_wakes_no_select(
    selector: AioSelector, tcp_pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = tcp_pair
    selector.register(ours, EVENT_READ)
    assert selector.select(0) == []
    theirs.send(b"!", socket.MSG_OOB)
    assert selector.select(0.01) == []


def test_modify_to_the_other_direction(selector: AioSelector) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        selector.register(ours, EVENT_READ, "data")
        assert selector.select(0) == []
        selector.modify(ours, EVENT_WRITE, "data")
        assert selector.select(0) == [(selector.get_key(ours), EVENT_WRITE)]
        selector.modify(ours, EVENT_READ, "other")
        assert selector.select(0) == []
        theirs.send(b"x")
        ((key, events),) = selector.select(None)
        assert (key.data, events) == ("other", EVENT_READ)


def test_two_threads_may_alternate_but_not_overlap(
    selector: AioSelector, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    ours, theirs = socket.socketpair()
    with ours, theirs:
        selector.register(reader, EVENT_READ)
        selector.register(ours, EVENT_READ)
        selector.select(0)
        result: list[set[int]] = []
        thread = threading.Thread(target=lambda: result.append(ready_fds(selector, None)))
        thread.start()
        # select has entered the kernel once a second caller gets the error.
        while thread.is_alive():
            try:
                selector.statistics()
                selector._context.adopt()
            except RuntimeError:
                break
        with pytest.raises(RuntimeError, match="in use"):
            selector.select(0)
        os.write(writer, b"x")
        thread.join(60)
        assert result == [{reader}]
        assert ready_fds(selector, None) == {reader}


@pytest.mark.subprocess
def test_a_signal_handler_that_raises_interrupts_select(user_ring: bool) -> None:
    program = f"""
import signal, socket
from selectors import EVENT_READ
from aiopoll import AioSelector
ours, theirs = socket.socketpair()
with AioSelector(16, user_ring={user_ring}) as selector:
    selector.register(ours, EVENT_READ)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        selector.select(None)
    except KeyboardInterrupt:
        theirs.send(b"x")
        assert [key.fileobj for key, _ in selector.select(None)] == [ours]
        print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True
    )
    assert done.stdout == "interrupted\n"


def test_closed_selector_raises_that_it_is_closed() -> None:
    selector = AioSelector(4)
    selector.close()
    selector.close()
    assert selector.get_map() is None
    for call in (
        lambda: selector.select(0),
        lambda: selector.register(0, EVENT_READ),
        lambda: selector.unregister(0),
        lambda: selector.modify(0, EVENT_READ),
        selector.statistics,
    ):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_the_readiness_of_epoll_is_the_readiness_here(selector: AioSelector) -> None:
    with ExitStack() as stack, selectors.EpollSelector() as oracle:
        states = []
        for prepare in (
            lambda ours, theirs: None,
            lambda ours, theirs: theirs.send(b"x"),
            lambda ours, theirs: theirs.close(),
            lambda ours, theirs: theirs.shutdown(socket.SHUT_WR),
            lambda ours, theirs: ours.shutdown(socket.SHUT_RDWR),
            fill,
        ):
            ours, theirs = socket.socketpair()
            stack.callback(ours.close)
            stack.callback(theirs.close)
            prepare(ours, theirs)
            states.append(ours)
        for events in (EVENT_READ, EVENT_WRITE, EVENT_READ | EVENT_WRITE):
            for sock in states:
                oracle.register(sock, events)
                selector.register(sock, events)
            expected = {(key.fd, mask) for key, mask in oracle.select(0)}
            assert {(key.fd, mask) for key, mask in selector.select(0)} == expected
            for sock in states:
                oracle.unregister(sock)
                selector.unregister(sock)


def fill(ours: socket.socket, theirs: socket.socket) -> None:
    ours.setblocking(False)
    try:
        while True:
            ours.send(bytes(4096))
    except BlockingIOError:
        unsent = array.array("i", [0])
        fcntl.ioctl(ours, termios.TIOCOUTQ, unsent)
        assert unsent[0] > 0


def test_timeouts_shorter_than_a_millisecond_are_kept(selector: AioSelector) -> None:
    assert selector.select(0.0001) == []
    assert selector.select(-1) == []


@pytest.mark.subprocess
def test_a_forked_child_changes_nothing(
    selector: AioSelector, pipe: tuple[int, int], in_child: Callable[[Callable[[], object]], str]
) -> None:
    reader, writer = pipe
    selector.register(reader, EVENT_READ)
    assert ready_fds(selector) == set()

    def use() -> str:
        selector.modify(reader, EVENT_WRITE)
        selector.unregister(reader)
        selector.close()
        return "used"

    assert in_child(use) == "'used'"
    os.write(writer, b"x")
    assert ready_fds(selector, 10) == {reader}
