"""io_pgetevents02: bad context, counts, events, timeout and signal mask, with an event waiting."""

import errno

import pytest

from aiopoll.libaio import (
    io_context_t,
    io_event,
    io_pgetevents,
    io_prep_pwrite,
    io_submit,
    iocb,
    timespec,
)


@pytest.fixture(autouse=True)
def _one_event_waits(ctx: io_context_t, rw_fd: int) -> None:
    cb = iocb()
    io_prep_pwrite(cb, rw_fd, bytes(4096), 4096, 0)
    assert io_submit(ctx, 1, [cb]) == 1


def test_bad_arguments(ctx: io_context_t) -> None:
    events, timeout = [io_event()], timespec(0, 10_000)
    null = io_context_t()
    assert io_pgetevents(null, 1, 1, events, timeout, set()) == -errno.EINVAL
    assert io_pgetevents(ctx, -1, 1, events, timeout, set()) == -errno.EINVAL
    assert io_pgetevents(ctx, 1, -1, events, timeout, set()) == -errno.EINVAL
    assert io_pgetevents(ctx, 1, 1, None, timeout, set()) == -errno.EFAULT
    # None of these has taken the event.
    assert io_pgetevents(ctx, 1, 1, events, timespec(30), set()) == 1


def test_bad_timeout_and_mask(ctx: io_context_t, gap) -> None:
    assert gap("io_pgetevents02: bad timeout and sigmask pointers")
    events = [io_event()]
    with pytest.raises(TypeError):
        io_pgetevents(ctx, 1, 1, events, -1, set())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        io_pgetevents(ctx, 1, 1, events, timespec(30), -1)  # type: ignore[arg-type]
    assert io_pgetevents(ctx, 1, 1, events, timespec(30), None) == 1
