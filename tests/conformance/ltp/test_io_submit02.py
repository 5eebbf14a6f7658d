"""io_submit02: io_submit returns the number of requests, and 0 for none."""

from pathlib import Path

from aiopoll import Context, Iocb
from aiopoll.libaio import io_prep_pread, iocb


def test_io_submit02(machine, ctx, rw_fd: int, attempt) -> None:
    assert attempt(ctx, io_prep_pread, rw_fd, bytearray(1), 1, 0) == 0
    cb = iocb()
    io_prep_pread(cb, rw_fd, bytearray(1), 1, 0)
    assert machine.io_submit(ctx, 1, [cb]) == 1
    assert machine.io_submit(ctx, 0, [cb]) == 0


def test_context(context: Context, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb+", buffering=0) as file:
        assert context.submit([Iocb.pread(file, bytearray())]) == 1
    assert [event.res for event in context.reap(1, timeout=30)] == [0]
    assert context.submit([]) == 0
    assert context.reap(0) == []
