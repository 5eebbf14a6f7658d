"""Case 19: events reaped from a ring that mremap(2) has moved."""

import errno
import select

import pytest

from aiopoll.libaio import io_event, io_prep_poll, iocb, timespec


def test_ring_moved_by_mremap(machine, ctx, skip_reason) -> None:
    if machine.move_ring is None:
        with pytest.raises((TypeError, ValueError)):
            int(ctx)  # there is no address to move
        pytest.skip(skip_reason("libaio case 19: mremap of the ring"))
    before = machine.new_context()
    before.id = ctx.id
    read_end, write_end = machine.pipe()
    cb, event = iocb(), io_event()
    io_prep_poll(cb, read_end, select.POLLIN)
    assert machine.io_submit(ctx, 1, [cb]) == 1
    machine.move_ring(ctx)
    assert machine.io_getevents(before, 0, 1, [event], timespec(0)) == -errno.EINVAL
    assert machine.io_destroy(before) == -errno.EINVAL
    machine.write(write_end, b"x")
    assert machine.io_getevents(ctx, 1, 1, [event], timespec(5)) == 1
    assert event.obj is cb
    assert machine.io_submit(ctx, 1, [cb]) == 1
    assert machine.io_getevents(ctx, 1, 1, [event], timespec(5)) == 1
