"""Case 4: descriptors without the permission, offset -1, O_APPEND, and bad buffers."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from aiopoll.libaio import io_context_t, io_prep_pread, io_prep_pwrite

SIZE = 512
# Nothing is mapped at 0, and no process may touch the last page of the address space.
BAD_ADDRESSES = [0, 2**64 - 4096]


def test_descriptor_without_permission(ctx: io_context_t, tmp_path: Path, attempt) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    buf = bytearray(SIZE)
    read_only = os.open(path, os.O_RDONLY)
    write_only = os.open(path, os.O_WRONLY)
    try:
        assert attempt(ctx, io_prep_pwrite, read_only, buf, SIZE, 0) == -errno.EBADF
        assert attempt(ctx, io_prep_pread, write_only, buf, SIZE, 0) == -errno.EBADF
    finally:
        os.close(read_only)
        os.close(write_only)


def test_write_and_read(ctx: io_context_t, rw_fd: int, attempt) -> None:
    buf = bytearray(b"x" * SIZE)
    assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, 0) == SIZE
    buf[:] = bytes(SIZE)
    assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, 0) == SIZE
    assert buf == b"x" * SIZE


def test_negative_offset(ctx: io_context_t, rw_fd: int, attempt) -> None:
    buf = bytearray(SIZE)
    assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, -1) == -errno.EINVAL
    assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, -1) == -errno.EINVAL


def test_append_ignores_the_offset(ctx: io_context_t, tmp_path: Path, attempt) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    buf = bytearray(SIZE)
    try:
        assert attempt(ctx, io_prep_pread, fd, buf, SIZE, 0) == 0
        assert attempt(ctx, io_prep_pwrite, fd, b"1234", 4, 0) == 4
        assert attempt(ctx, io_prep_pwrite, fd, b"5678", 4, 0) == 4
        assert attempt(ctx, io_prep_pread, fd, buf, SIZE, 0) == 8
    finally:
        os.close(fd)
    assert buf[:8] == b"12345678"


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_bad_buffer(ctx: io_context_t, rw_fd: int, attempt, address: int) -> None:
    os.pwrite(rw_fd, bytes(SIZE), 0)
    buf = (ctypes.c_char * SIZE).from_address(address)
    assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, 0) == -errno.EFAULT
    assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, 0) == -errno.EFAULT
