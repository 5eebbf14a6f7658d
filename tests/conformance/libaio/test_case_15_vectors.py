"""Case 15: preadv and pwritev, at offset 0 and beyond it."""

import pytest

from aiopoll.libaio import io_prep_preadv, io_prep_pwritev

SIZE = 512
NR = 10


@pytest.mark.parametrize("first", [0, 1])
def test_vectors(machine, ctx, rw_fd: int, attempt, first: int) -> None:
    machine.ftruncate(rw_fd, SIZE * NR)
    iov = [bytearray([i]) * SIZE for i in range(first, NR)]
    content = b"".join(iov)

    result = attempt(ctx, io_prep_pwritev, rw_fd, iov, len(iov), first * SIZE)
    assert result == len(content)
    assert machine.pread(rw_fd, SIZE * NR, 0) == bytes(first * SIZE) + content

    for part in iov:
        part[:] = bytes(SIZE)
    result = attempt(ctx, io_prep_preadv, rw_fd, iov, len(iov), first * SIZE)
    assert result == len(content)
    assert b"".join(iov) == content
