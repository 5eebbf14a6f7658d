"""io_submit02: Context.submit answers the number of requests, and 0 for none."""

from aiopoll import Context, Iocb


def test_io_submit02(context: Context, rw_fd: int) -> None:
    assert context.submit([Iocb.pread(rw_fd, bytearray())]) == 1
    assert [event.res for event in context.reap(1, timeout=30)] == [0]
    assert context.submit([]) == 0
    assert context.reap(0) == []
