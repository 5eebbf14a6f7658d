"""Case 5: reading into and writing from a mapping of the same file, under each protection."""

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator

import pytest

from aiopoll.libaio import io_context_t, io_prep_pread, io_prep_pwrite

SIZE = 512


@pytest.fixture
def file_fd(rw_fd: int) -> int:
    os.pwrite(rw_fd, bytes(range(256)) * 2, 0)
    return rw_fd


def mapped(fd: int, prot: int) -> Iterator[mmap.mmap]:
    with mmap.mmap(fd, SIZE, mmap.MAP_SHARED, prot) as mapping:
        yield mapping


def test_readable_and_writable(ctx: io_context_t, file_fd: int, attempt) -> None:
    for order in ((io_prep_pwrite, io_prep_pread), (io_prep_pread, io_prep_pwrite)):
        for mapping in mapped(file_fd, mmap.PROT_READ | mmap.PROT_WRITE):
            for prep in order:
                assert attempt(ctx, prep, file_fd, mapping, SIZE, 0) == SIZE
            assert mapping[:] == bytes(range(256)) * 2


def test_read_only(ctx: io_context_t, file_fd: int, attempt) -> None:
    for mapping in mapped(file_fd, mmap.PROT_READ):
        assert attempt(ctx, io_prep_pwrite, file_fd, mapping, SIZE, 0) == SIZE
        with pytest.raises(BufferError):
            attempt(ctx, io_prep_pread, file_fd, mapping, SIZE, 0)


def test_read_only_memory_that_claims_to_be_writable(
    ctx: io_context_t, file_fd: int, attempt
) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    address = libc.mmap(None, SIZE, mmap.PROT_READ, mmap.MAP_SHARED, file_fd, 0)
    assert address != ctypes.c_void_p(-1).value
    try:
        buf = (ctypes.c_char * SIZE).from_address(address)
        assert attempt(ctx, io_prep_pwrite, file_fd, buf, SIZE, 0) == SIZE
        assert attempt(ctx, io_prep_pread, file_fd, buf, SIZE, 0) == -errno.EFAULT
    finally:
        libc.munmap(address, SIZE)


def test_write_only_is_as_write_has_it(ctx: io_context_t, file_fd: int, attempt) -> None:
    # Whether PROT_WRITE alone can be read is the architecture's choice: write(2) tells.
    for mapping in mapped(file_fd, mmap.PROT_WRITE):
        try:
            expected = os.pwrite(file_fd, mapping, 0)
        except OSError as error:
            expected = -error.errno
        assert attempt(ctx, io_prep_pread, file_fd, mapping, SIZE, 0) == SIZE
        assert attempt(ctx, io_prep_pwrite, file_fd, mapping, SIZE, 0) == expected
