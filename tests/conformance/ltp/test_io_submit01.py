"""io_submit01: libaio's io_submit with each kind of bad argument, with 0 bytes, with nothing."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiopoll.libaio import io_prep_pread, io_prep_pwrite, iocb

SIZE = 100


@pytest.fixture
def read_only(machine, tmp_path: Path) -> Iterator[int]:
    fd = machine.open(tmp_path / "rdonly", os.O_RDONLY | os.O_CREAT)
    yield fd
    machine.close(fd)


@pytest.fixture
def write_only(machine, tmp_path: Path) -> Iterator[int]:
    fd = machine.open(tmp_path / "wronly", os.O_WRONLY | os.O_CREAT)
    yield fd
    machine.close(fd)


def pread(fd: int, count: int = SIZE) -> iocb:
    cb = iocb()
    io_prep_pread(cb, fd, bytearray(SIZE), count, 0)
    return cb


def test_bad_context_and_count(machine, ctx, read_only: int) -> None:
    assert machine.io_submit(machine.new_context(), 1, [pread(read_only)]) == -errno.EINVAL
    assert machine.io_submit(ctx, -1, [pread(read_only)]) == -errno.EINVAL


def test_bad_pointers(machine, ctx) -> None:
    assert machine.io_submit(ctx, 1, None) == -errno.EFAULT
    assert machine.io_submit(ctx, 1, [None]) == -errno.EFAULT


def test_bad_descriptors(machine, ctx, read_only: int, write_only: int) -> None:
    assert machine.io_submit(ctx, 1, [pread(-1)]) == -errno.EBADF
    assert machine.io_submit(ctx, 1, [pread(write_only)]) == -errno.EBADF
    write = iocb()
    io_prep_pwrite(write, read_only, bytes(SIZE), SIZE, 0)
    assert machine.io_submit(ctx, 1, [write]) == -errno.EBADF


def test_nothing_to_do(machine, ctx, read_only: int) -> None:
    assert machine.io_submit(ctx, 1, [pread(read_only, 0)]) == 1
    assert machine.io_submit(ctx, 0, None) == 0
