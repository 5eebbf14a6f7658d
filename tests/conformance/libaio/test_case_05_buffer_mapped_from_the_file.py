"""Case 5: reading into and writing from a mapping of the same file, under each protection."""

import errno
import mmap

import pytest

from aiopoll.libaio import io_prep_pread, io_prep_pwrite

SIZE = 512
CONTENT = bytes(range(256)) * 2


@pytest.fixture
def file_fd(machine, rw_fd: int) -> int:
    machine.pwrite(rw_fd, CONTENT, 0)
    return rw_fd


def test_readable_and_writable(machine, ctx, file_fd: int, attempt) -> None:
    for order in ((io_prep_pwrite, io_prep_pread), (io_prep_pread, io_prep_pwrite)):
        with machine.mmap(file_fd, SIZE, mmap.PROT_READ | mmap.PROT_WRITE) as mapping:
            for prep in order:
                assert attempt(ctx, prep, file_fd, mapping, SIZE, 0) == SIZE
            assert mapping[:] == CONTENT


def test_read_only(machine, ctx, file_fd: int, attempt) -> None:
    with machine.mmap(file_fd, SIZE, mmap.PROT_READ) as mapping:
        assert attempt(ctx, io_prep_pwrite, file_fd, mapping, SIZE, 0) == SIZE
        try:
            result = attempt(ctx, io_prep_pread, file_fd, mapping, SIZE, 0)
        except BufferError:
            # Python itself refuses a read-only mmap object, and does not ask the kernel.
            result = -errno.EFAULT
        assert result == -errno.EFAULT


def test_read_only_memory_that_claims_to_be_writable(machine, ctx, file_fd: int, attempt) -> None:
    with machine.mmap_of_unknown_protection(file_fd, SIZE, mmap.PROT_READ) as buf:
        assert attempt(ctx, io_prep_pwrite, file_fd, buf, SIZE, 0) == SIZE
        assert attempt(ctx, io_prep_pread, file_fd, buf, SIZE, 0) == -errno.EFAULT


def test_write_only_is_as_write_has_it(machine, ctx, file_fd: int, attempt) -> None:
    # The architecture decides whether PROT_WRITE alone can be read: write(2) shows it.
    with machine.mmap(file_fd, SIZE, mmap.PROT_WRITE) as mapping:
        try:
            expected = machine.pwrite(file_fd, mapping, 0)
        except OSError as error:
            expected = -error.errno
        assert attempt(ctx, io_prep_pread, file_fd, mapping, SIZE, 0) == SIZE
        assert attempt(ctx, io_prep_pwrite, file_fd, mapping, SIZE, 0) == expected
