"""Case 3: io_submit with a bad context, bad pointers and a bad count.

On Linux, Python cannot pass an unmapped address for an iocb or for the array: None is the only bad
pointer.
"""

import errno

import pytest

from aiopoll.libaio import io_prep_pread, iocb


def good_iocbs(fd: int) -> list[iocb | None]:
    result: list[iocb | None] = []
    for _ in range(2):
        cb = iocb()
        io_prep_pread(cb, fd, bytearray(8), 8, 0)
        result.append(cb)
    return result


def test_bad_context(machine, rw_fd: int) -> None:
    assert machine.io_submit(machine.new_context(), 1, good_iocbs(rw_fd)) == -errno.EINVAL
    assert machine.io_submit(None, 1, good_iocbs(rw_fd)) == -errno.EINVAL


def test_count_zero_and_negative(machine, ctx, rw_fd: int) -> None:
    assert machine.io_submit(ctx, 0, good_iocbs(rw_fd)) == 0
    assert machine.io_submit(ctx, -1, good_iocbs(rw_fd)) == -errno.EINVAL


def test_bad_array(machine, ctx) -> None:
    assert machine.io_submit(ctx, 1, None) == -errno.EFAULT


def test_bad_first_iocb(machine, ctx, rw_fd: int) -> None:
    assert machine.io_submit(ctx, 2, [None, *good_iocbs(rw_fd)]) == -errno.EFAULT


def test_bad_second_iocb_lets_the_first_one_go(machine, ctx, rw_fd: int) -> None:
    first, second = good_iocbs(rw_fd)
    assert machine.io_submit(ctx, 3, [first, None, second]) == 1


def test_addresses_not_mapped(machine, ctx, skip_reason) -> None:
    if machine.bad_pointer is not None:
        bad = machine.bad_pointer
        assert machine.io_submit(ctx, 1, bad) == -errno.EFAULT
        assert machine.io_submit(ctx, 1, [bad]) == -errno.EFAULT
        return
    assert skip_reason("libaio case 3: unmapped addresses")
    with pytest.raises(TypeError):
        machine.io_submit(ctx, 1, -1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        machine.io_submit(ctx, 1, [-1])  # type: ignore[list-item]
