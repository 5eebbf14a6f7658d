"""Case 17: more requests than the ring holds: -EAGAIN until events are reaped, never a hang."""

import errno

import pytest

from aiopoll.libaio import io_event, io_prep_preadv, iocb, timespec

MAX_EVENTS = 32
IO_SIZE = 4096


@pytest.mark.parametrize(("factor", "extra"), [(1, -1), (1, 0), (1, 1), (2, 0), (4, 0)], ids=str)
def test_overfilled_ring(machine, rw_fd: int, factor: int, extra: int) -> None:
    nr = machine.ring_nr(MAX_EVENTS) * factor + extra
    machine.ftruncate(rw_fd, IO_SIZE)
    ctx = machine.new_context()
    assert machine.io_setup(MAX_EVENTS, ctx) == 0
    iocbs = [iocb() for _ in range(nr)]
    for cb in iocbs:
        io_prep_preadv(cb, rw_fd, [bytearray(IO_SIZE)], 1, 0)
    events = [io_event() for _ in range(nr)]
    submitted = pending = completed = 0
    while completed < nr:
        result = machine.io_submit(ctx, nr - submitted, iocbs[submitted:])
        if result >= 0:
            submitted += result
            pending += result
        else:
            assert result == -errno.EAGAIN
            assert pending > 0, "no slot is free and none is taken"
        if result < 0 or submitted == nr:
            reaped = machine.io_getevents(ctx, pending, nr, events, timespec(30))
            assert reaped == pending
            assert all(event.res == IO_SIZE for event in events[:reaped])
            completed += reaped
            pending = 0
    assert machine.io_getevents(ctx, 0, nr, events, timespec(0)) == 0
    assert machine.io_destroy(ctx) == 0
