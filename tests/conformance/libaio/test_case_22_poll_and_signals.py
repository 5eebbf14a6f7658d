"""Case 22: io_pgetevents lets a blocked signal in for the time of the wait, and polls as usual."""

import errno
import os
import select
import signal

from aiopoll.libaio import (
    io_context_t,
    io_destroy,
    io_event,
    io_pgetevents,
    io_prep_poll,
    io_setup,
    io_submit,
    iocb,
    timespec,
)


def poll_and_wait(fd: int) -> tuple[int, io_event]:
    """io_pgetevents for POLLIN on `fd`, with no signal blocked."""
    ctx, cb, event = io_context_t(), iocb(), io_event()
    assert io_setup(1, ctx) == 0
    io_prep_poll(cb, fd, select.POLLIN)
    assert io_submit(ctx, 1, [cb]) == 1
    result = io_pgetevents(ctx, 1, 1, [event], timespec(30), set())
    assert io_destroy(ctx) == 0
    assert result != 1 or event.obj is cb
    return result, event


def test_signal_ends_the_wait(in_child) -> None:
    def body() -> None:
        calls = []
        signal.signal(signal.SIGUSR1, lambda *_: calls.append(1))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        read_end, _write_end = os.pipe()
        # Pending and blocked: that it comes during the wait is not a matter of luck.
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not calls
        assert poll_and_wait(read_end)[0] == -errno.EINTR
        assert calls
        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ())

    in_child(body)


def test_poll_of_a_pipe_that_a_signalled_child_writes_to(in_child) -> None:
    def body() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        silent_read, _silent_write = os.pipe()
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                if poll_and_wait(silent_read)[0] == -errno.EINTR:
                    os.write(write_end, b"foo")
                    status = 0
            finally:
                os._exit(status)
        os.kill(pid, signal.SIGUSR1)
        result, event = poll_and_wait(read_end)
        assert result == 1
        assert event.res & select.POLLIN
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    in_child(body)
