"""io_pgetevents02: bad context, counts, events, timeout and signal mask, with an event waiting."""

import errno

import pytest

from aiopoll.libaio import io_event, io_prep_pwrite, iocb, timespec


@pytest.fixture(autouse=True)
def _one_event_waits(machine, ctx, rw_fd: int) -> None:
    cb = iocb()
    io_prep_pwrite(cb, rw_fd, bytes(4096), 4096, 0)
    assert machine.io_submit(ctx, 1, [cb]) == 1


def test_bad_arguments(machine, ctx) -> None:
    events, timeout = [io_event()], timespec(0, 10_000)
    null = machine.new_context()
    assert machine.io_pgetevents(null, 1, 1, events, timeout, set()) == -errno.EINVAL
    assert machine.io_pgetevents(ctx, -1, 1, events, timeout, set()) == -errno.EINVAL
    assert machine.io_pgetevents(ctx, 1, -1, events, timeout, set()) == -errno.EINVAL
    assert machine.io_pgetevents(ctx, 1, 1, None, timeout, set()) == -errno.EFAULT
    # None of these has taken the event.
    assert machine.io_pgetevents(ctx, 1, 1, events, timespec(30), set()) == 1


def test_bad_timeout_and_mask(machine, ctx, skip_reason) -> None:
    events, bad = [io_event()], machine.bad_pointer
    if bad is not None:
        assert machine.io_pgetevents(ctx, 1, 1, events, bad, set()) == -errno.EFAULT
        assert machine.io_pgetevents(ctx, 1, 1, events, timespec(30), bad) == -errno.EFAULT
        return
    assert skip_reason("io_pgetevents02: bad timeout and sigmask pointers")
    with pytest.raises(TypeError):
        machine.io_pgetevents(ctx, 1, 1, events, -1, set())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        machine.io_pgetevents(ctx, 1, 1, events, timespec(30), -1)  # type: ignore[arg-type]
    assert machine.io_pgetevents(ctx, 1, 1, events, timespec(30), None) == 1
