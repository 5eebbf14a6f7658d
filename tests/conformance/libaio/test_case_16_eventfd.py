"""Case 16: an eventfd is signalled once, when the event is there and not before."""

import os
import select
from collections.abc import Iterator

import pytest

from aiopoll.libaio import (
    io_context_t,
    io_event,
    io_getevents,
    io_prep_pread,
    io_prep_pwrite,
    io_set_eventfd,
    io_submit,
    iocb,
    timespec,
)

SIZE = 10_000_000


@pytest.fixture
def event_fd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def test_eventfd(ctx: io_context_t, rw_fd: int, event_fd: int) -> None:
    poller = select.poll()
    poller.register(event_fd, select.POLLIN)
    buf = bytearray(b"B" * SIZE)
    for prep in (io_prep_pwrite, io_prep_pread):
        cb = iocb()
        prep(cb, rw_fd, buf, SIZE, 0)
        io_set_eventfd(cb, event_fd)
        assert io_submit(ctx, 1, [cb]) == 1
        assert poller.poll(30_000)
        assert os.eventfd_read(event_fd) == 1
        event = io_event()
        assert io_getevents(ctx, 0, 1, [event], timespec(0)) == 1
        assert event.res == SIZE
        if prep is io_prep_pwrite:
            buf[:] = bytes(SIZE)
    assert buf == b"B" * SIZE
