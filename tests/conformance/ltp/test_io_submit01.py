"""io_submit01: libaio's io_submit with each kind of bad argument, with 0 bytes, with nothing."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiopoll.libaio import (
    io_context_t,
    io_prep_pread,
    io_prep_pwrite,
    io_submit,
    iocb,
)

SIZE = 100


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "rdonly", os.O_RDONLY | os.O_CREAT, 0o600)
    yield fd
    os.close(fd)


@pytest.fixture
def write_only(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "wronly", os.O_WRONLY | os.O_CREAT, 0o600)
    yield fd
    os.close(fd)


def pread(fd: int, count: int = SIZE) -> iocb:
    cb = iocb()
    io_prep_pread(cb, fd, bytearray(SIZE), count, 0)
    return cb


def test_bad_context_and_count(ctx: io_context_t, read_only: int) -> None:
    assert io_submit(io_context_t(), 1, [pread(read_only)]) == -errno.EINVAL
    assert io_submit(ctx, -1, [pread(read_only)]) == -errno.EINVAL


def test_bad_pointers(ctx: io_context_t) -> None:
    assert io_submit(ctx, 1, None) == -errno.EFAULT
    assert io_submit(ctx, 1, [None]) == -errno.EFAULT


def test_bad_descriptors(ctx: io_context_t, read_only: int, write_only: int) -> None:
    assert io_submit(ctx, 1, [pread(-1)]) == -errno.EBADF
    assert io_submit(ctx, 1, [pread(write_only)]) == -errno.EBADF
    write = iocb()
    io_prep_pwrite(write, read_only, bytes(SIZE), SIZE, 0)
    assert io_submit(ctx, 1, [write]) == -errno.EBADF


def test_nothing_to_do(ctx: io_context_t, read_only: int) -> None:
    assert io_submit(ctx, 1, [pread(read_only, 0)]) == 1
    assert io_submit(ctx, 0, None) == 0
