"""io_submit04: a read with RWF_NOWAIT of an empty pipe completes with -EAGAIN."""

import errno
import os

from aiopoll import Context, Iocb
from aiopoll.libaio import io_prep_preadv2


def test_io_submit04(machine, ctx, attempt) -> None:
    read_end, write_end = machine.pipe()
    buf = bytearray(100)
    result = attempt(ctx, io_prep_preadv2, read_end, [buf], 1, 0, os.RWF_NOWAIT)
    assert result == -errno.EAGAIN
    machine.close(read_end)
    machine.close(write_end)


def test_context(context: Context) -> None:
    read_end, write_end = os.pipe()
    try:
        request = Iocb.pread(read_end, bytearray(100), rw_flags=os.RWF_NOWAIT)
        assert context.submit([request]) == 1
        (event,) = context.reap(1, timeout=30)
        assert event.obj is request
        assert event.res == -errno.EAGAIN
    finally:
        os.close(read_end)
        os.close(write_end)
