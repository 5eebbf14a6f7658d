"""Case 12: a context is not the child's after a fork: every call returns -EINVAL there."""

import errno
import select

import pytest

from aiopoll.libaio import io_event, io_prep_poll, iocb

pytestmark = pytest.mark.subprocess


def test_context_across_fork(machine, ctx) -> None:
    cb = iocb()
    read_end, write_end = machine.pipe()
    machine.write(write_end, b"x")
    io_prep_poll(cb, read_end, select.POLLIN)
    assert machine.io_submit(ctx, 0, None) == 0
    assert machine.io_submit(ctx, 1, [cb]) == 1

    def body() -> None:
        assert machine.io_submit(ctx, 0, None) == -errno.EINVAL
        assert machine.io_submit(ctx, 1, [cb]) == -errno.EINVAL
        assert machine.io_cancel(ctx, cb, None) == -errno.EINVAL
        assert machine.io_getevents(ctx, 0, 1, [io_event()], None) == -errno.EINVAL
        assert machine.io_destroy(ctx) == -errno.EINVAL

    machine.in_child(body)
    event = io_event()
    assert machine.io_getevents(ctx, 1, 1, [event], None) == 1, "the child took the event"
    assert event.obj is cb
    machine.close(read_end)
    machine.close(write_end)
