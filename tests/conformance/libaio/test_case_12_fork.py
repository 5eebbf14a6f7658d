"""Case 12: a context is not the child's after a fork: every call answers -EINVAL there."""

import errno
import select

from aiopoll.libaio import (
    io_cancel,
    io_context_t,
    io_destroy,
    io_event,
    io_getevents,
    io_prep_poll,
    io_submit,
    iocb,
)


def test_context_across_fork(ctx: io_context_t, rw_fd: int, in_child) -> None:
    cb = iocb()
    io_prep_poll(cb, rw_fd, select.POLLIN)
    assert io_submit(ctx, 0, None) == 0
    assert io_submit(ctx, 1, [cb]) == 1

    def body() -> None:
        assert io_submit(ctx, 0, None) == -errno.EINVAL
        assert io_submit(ctx, 1, [cb]) == -errno.EINVAL
        assert io_cancel(ctx, cb, None) == -errno.EINVAL
        assert io_getevents(ctx, 0, 1, [io_event()], None) == -errno.EINVAL
        assert io_destroy(ctx) == -errno.EINVAL

    in_child(body)
    event = io_event()
    assert io_getevents(ctx, 1, 1, [event], None) == 1, "the child took the event"
    assert event.obj is cb
