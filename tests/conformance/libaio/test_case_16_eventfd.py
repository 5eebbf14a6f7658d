"""Case 16: an eventfd is signalled once, when the event is there and not before."""

import os
from collections.abc import Iterator

import pytest

from aiopoll.libaio import io_event, io_prep_pread, io_prep_pwrite, io_set_eventfd, iocb, timespec

SIZE = 10_000_000


@pytest.fixture
def event_fd(machine) -> Iterator[int]:
    fd = machine.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    yield fd
    machine.close(fd)


def test_eventfd(machine, ctx, rw_fd: int, event_fd: int) -> None:
    buf = bytearray(b"B" * SIZE)
    for prep in (io_prep_pwrite, io_prep_pread):
        cb = iocb()
        prep(cb, rw_fd, buf, SIZE, 0)
        io_set_eventfd(cb, event_fd)
        assert machine.io_submit(ctx, 1, [cb]) == 1
        assert machine.wait_readable(event_fd)
        assert machine.eventfd_read(event_fd) == 1
        event = io_event()
        assert machine.io_getevents(ctx, 0, 1, [event], timespec(0)) == 1
        assert event.res == SIZE
        if prep is io_prep_pwrite:
            buf[:] = bytes(SIZE)
    assert buf == b"B" * SIZE
