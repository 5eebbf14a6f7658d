"""io_pgetevents01: one event, with an empty signal mask."""

from pathlib import Path

from aiopoll import Context, Iocb
from aiopoll.libaio import io_event, io_prep_pwrite, iocb, timespec


def test_context(context: Context, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb", buffering=0) as file:
        context.submit([Iocb.pwrite(file, bytes(4096))])
    (event,) = context.reap(1, 1, timeout=30, sigmask=())
    assert event.res == 4096


def test_io_pgetevents01(machine, ctx, rw_fd: int) -> None:
    cb, event = iocb(), io_event()
    io_prep_pwrite(cb, rw_fd, bytes(4096), 4096, 0)
    assert machine.io_submit(ctx, 1, [cb]) == 1
    assert machine.io_pgetevents(ctx, 1, 1, [event], timespec(30), set()) == 1
    assert (event.obj, event.res) == (cb, 4096)
