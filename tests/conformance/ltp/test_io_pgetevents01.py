"""io_pgetevents01: one event, with an empty signal mask."""

from aiopoll import Context, Iocb
from aiopoll.libaio import (
    io_context_t,
    io_event,
    io_pgetevents,
    io_prep_pwrite,
    io_submit,
    iocb,
    timespec,
)


def test_context(context: Context, rw_fd: int) -> None:
    context.submit([Iocb.pwrite(rw_fd, bytes(4096))])
    (event,) = context.reap(1, 1, timeout=30, sigmask=())
    assert event.res == 4096


def test_libaio(ctx: io_context_t, rw_fd: int) -> None:
    cb, event = iocb(), io_event()
    io_prep_pwrite(cb, rw_fd, bytes(4096), 4096, 0)
    assert io_submit(ctx, 1, [cb]) == 1
    assert io_pgetevents(ctx, 1, 1, [event], timespec(30), set()) == 1
    assert (event.obj, event.res) == (cb, 4096)
