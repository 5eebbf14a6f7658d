"""Case 4: descriptors without the permission, offset -1, O_APPEND, and bad buffers."""

import errno
import os
from pathlib import Path

from aiopoll.libaio import io_prep_pread, io_prep_pwrite

SIZE = 512


def test_descriptor_without_permission(machine, ctx, tmp_path: Path, attempt) -> None:
    path = tmp_path / "file"
    fd = machine.open(path, os.O_WRONLY | os.O_CREAT)
    machine.write(fd, bytes(SIZE))
    machine.close(fd)
    buf = bytearray(SIZE)
    read_only = machine.open(path, os.O_RDONLY)
    write_only = machine.open(path, os.O_WRONLY)
    try:
        assert attempt(ctx, io_prep_pwrite, read_only, buf, SIZE, 0) == -errno.EBADF
        assert attempt(ctx, io_prep_pread, write_only, buf, SIZE, 0) == -errno.EBADF
    finally:
        machine.close(read_only)
        machine.close(write_only)


def test_write_and_read(ctx, rw_fd: int, attempt) -> None:
    buf = bytearray(b"x" * SIZE)
    assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, 0) == SIZE
    buf[:] = bytes(SIZE)
    assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, 0) == SIZE
    assert buf == b"x" * SIZE


def test_negative_offset(ctx, rw_fd: int, attempt) -> None:
    buf = bytearray(SIZE)
    assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, -1) == -errno.EINVAL
    assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, -1) == -errno.EINVAL


def test_append_ignores_the_offset(machine, ctx, tmp_path: Path, attempt) -> None:
    fd = machine.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    buf = bytearray(SIZE)
    try:
        assert attempt(ctx, io_prep_pread, fd, buf, SIZE, 0) == 0
        assert attempt(ctx, io_prep_pwrite, fd, b"1234", 4, 0) == 4
        assert attempt(ctx, io_prep_pwrite, fd, b"5678", 4, 0) == 4
        assert attempt(ctx, io_prep_pread, fd, buf, SIZE, 0) == 8
    finally:
        machine.close(fd)
    assert buf[:8] == b"12345678"


def test_bad_buffer(machine, ctx, rw_fd: int, attempt) -> None:
    machine.pwrite(rw_fd, bytes(SIZE), 0)
    for buf in machine.bad_buffers(SIZE):
        assert attempt(ctx, io_prep_pread, rw_fd, buf, SIZE, 0) == -errno.EFAULT
        assert attempt(ctx, io_prep_pwrite, rw_fd, buf, SIZE, 0) == -errno.EFAULT
