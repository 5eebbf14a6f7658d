"""Calls that swap the signal mask, and their effect on a pending signal."""

import errno
import os
import signal
import socket

import pytest

from aiopoll.kernel.aio_abi import Iocb
from aiopoll.kernel.signal import Killed
from aiopoll.kernel.uapi import EPOLL_CTL_ADD, EPOLLIN

USR1, USR2 = signal.SIGUSR1, signal.SIGUSR2


@pytest.fixture
def caught(kernel):
    """The signals that were handled, each with the mask that its handler ran under."""
    caught = []
    for signo in (USR1, USR2):
        kernel.sigaction(signo, lambda signo: caught.append((signo, kernel.sched.current.blocked)))
    kernel.sigprocmask([USR1, USR2])
    return caught


def waits(kernel):
    """The three calls, on a pipe that a poll, an epoll set and a request watch."""
    reader, writer = kernel.pipe2()
    ctx = kernel.io_setup(1)
    epoll = kernel.epoll_create1()
    kernel.epoll_ctl(epoll, EPOLL_CTL_ADD, reader, EPOLLIN)
    kernel.io_submit(ctx, 1, [Iocb.poll(reader, EPOLLIN)])
    return writer, {
        "ppoll": lambda mask: kernel.ppoll([(reader, EPOLLIN)], None, mask),
        "epoll": lambda mask: kernel.epoll_wait(epoll, 1, None, mask),
        "aio": lambda mask: kernel.io_pgetevents(ctx, 1, 1, None, mask),
    }


@pytest.mark.parametrize("call", ["ppoll", "epoll", "aio"])
def test_a_pending_signal_is_let_in_and_the_mask_put_back(kernel, caught, call):
    _, calls = waits(kernel)
    kernel.kill(0, USR1)
    kernel.kill(0, USR2)
    with pytest.raises(OSError, match=rf"\[Errno {errno.EINTR}\]"):
        calls[call]([USR2])
    # The handler ran under the mask of the call, and USR2 waits on.
    assert caught == [(USR1, frozenset({USR2}))]
    assert kernel.sched.current.blocked == {USR1, USR2}
    assert kernel.sched.current.pending == [USR2]


@pytest.mark.parametrize(("call", "delivers"), [("ppoll", False), ("epoll", False), ("aio", True)])
def test_a_signal_that_comes_together_with_events(kernel, caught, call, delivers):
    """io_pgetevents delivers it as well; poll and epoll leave it pending for the next call."""
    writer, calls = waits(kernel)
    kernel.write(writer, b"x")
    kernel.kill(0, USR1)
    assert len(calls[call]([])) == 1
    assert caught == ([(USR1, frozenset())] if delivers else [])
    assert kernel.sched.current.blocked == {USR1, USR2}


def test_kill_and_stop_cannot_be_blocked(kernel):
    kernel.sigprocmask(range(1, 65))
    assert not {signal.SIGKILL, signal.SIGSTOP} & kernel.sched.current.blocked
    with pytest.raises(Killed):
        kernel.kill(0, signal.SIGKILL)


def test_only_streams_send_sigpipe(kernel):
    caught = []
    kernel.sigaction(signal.SIGPIPE, caught.append)
    for kind, expected in ((socket.SOCK_DGRAM, 0), (socket.SOCK_STREAM, 1)):
        one, _ = kernel.socketpair(socket.AF_UNIX, kind)
        kernel.shutdown(one, socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            kernel.write(one, b"x")
        assert len(caught) == expected
    with pytest.raises(BrokenPipeError):
        kernel.sendto(one, b"x", socket.MSG_NOSIGNAL)
    assert len(caught) == 1


def test_signalfd_takes_pending_signals_and_a_new_mask(kernel):
    kernel.sigprocmask([USR1, USR2])
    fd = kernel.signalfd4(-1, [USR1], os.O_NONBLOCK)
    kernel.kill(0, USR2)
    with pytest.raises(BlockingIOError):
        kernel.read(fd, 128)
    kernel.signalfd4(fd, [USR1, USR2])
    kernel.kill(0, USR1)
    data = kernel.read(fd, 1000)
    assert [int.from_bytes(data[at : at + 4], "little") for at in (0, 128)] == [USR1, USR2]
    assert kernel.sched.current.pending == []
    with pytest.raises(OSError, match=rf"\[Errno {errno.EINVAL}\]"):
        kernel.read(fd, 127)
