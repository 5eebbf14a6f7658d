"""io_submit04: a read with RWF_NOWAIT of an empty pipe completes with -EAGAIN.

Before Linux 6.4 pipes take no RWF_NOWAIT: preadv2(2) says whether they do, here as there.
"""

import errno
import os

import pytest
from tests.support.kernel import nowait_errno_of_an_empty_pipe

from aiopoll import Context, Iocb, SubmitError
from aiopoll.libaio import io_prep_preadv2


def test_io_submit04(machine, ctx, attempt) -> None:
    read_end, write_end = machine.pipe()
    buf = bytearray(100)
    result = attempt(ctx, io_prep_preadv2, read_end, [buf], 1, 0, os.RWF_NOWAIT)
    assert result == -machine.nowait_errno_of_an_empty_pipe()
    machine.close(read_end)
    machine.close(write_end)


def test_context(context: Context) -> None:
    read_end, write_end = os.pipe()
    try:
        request = Iocb.pread(read_end, bytearray(100), rw_flags=os.RWF_NOWAIT)
        if nowait_errno_of_an_empty_pipe() != errno.EAGAIN:
            with pytest.raises(SubmitError) as caught:
                context.submit([request])
            assert caught.value.errno == errno.EOPNOTSUPP
            return
        assert context.submit([request]) == 1
        (event,) = context.reap(1, timeout=30)
        assert event.obj is request
        assert event.res == -errno.EAGAIN
    finally:
        os.close(read_end)
        os.close(write_end)
