"""Case 22: io_pgetevents unblocks a signal for the time of the wait, and polls as usual."""

import errno
import select
import signal

import pytest

from aiopoll.libaio import io_event, io_prep_poll, iocb, timespec

pytestmark = pytest.mark.subprocess


def poll_and_wait(machine, fd: int) -> tuple[int, io_event]:
    """io_pgetevents for POLLIN on `fd`, with no signal blocked."""
    ctx, cb, event = machine.new_context(), iocb(), io_event()
    assert machine.io_setup(1, ctx) == 0
    io_prep_poll(cb, fd, select.POLLIN)
    assert machine.io_submit(ctx, 1, [cb]) == 1
    result = machine.io_pgetevents(ctx, 1, 1, [event], timespec(30), set())
    assert machine.io_destroy(ctx) == 0
    assert result != 1 or event.obj is cb
    return result, event


def test_signal_ends_the_wait(machine) -> None:
    def body() -> None:
        calls = []
        machine.sigaction(signal.SIGUSR1, calls.append)
        machine.block({signal.SIGUSR1})
        read_end, _write_end = machine.pipe()
        # Pending and blocked: so it is certain to come during the wait.
        machine.kill(machine.getpid(), signal.SIGUSR1)
        assert not calls
        assert poll_and_wait(machine, read_end)[0] == -errno.EINTR
        assert calls == [signal.SIGUSR1]
        assert signal.SIGUSR1 in machine.block(())

    machine.in_child(body)


def test_poll_of_a_pipe_that_a_signalled_child_writes_to(machine) -> None:
    def body() -> None:
        machine.sigaction(signal.SIGUSR1, lambda _: None)
        machine.block({signal.SIGUSR1})
        silent_read, _silent_write = machine.pipe()
        read_end, write_end = machine.pipe()

        def child() -> None:
            assert poll_and_wait(machine, silent_read)[0] == -errno.EINTR
            machine.write(write_end, b"foo")

        pid = machine.fork(child)
        machine.kill(pid, signal.SIGUSR1)
        result, event = poll_and_wait(machine, read_end)
        assert result == 1
        assert event.res & select.POLLIN
        assert machine.waitpid(pid) == 0

    machine.in_child(body)
