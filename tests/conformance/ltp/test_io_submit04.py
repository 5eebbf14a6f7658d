"""io_submit04: a read with RWF_NOWAIT of an empty pipe completes with -EAGAIN."""

import errno
import os

from aiopoll import Context, Iocb


def test_io_submit04(context: Context) -> None:
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
