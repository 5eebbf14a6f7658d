"""io_submit03: a bad context, bad requests and bad descriptors."""

import errno
import os
from pathlib import Path

import pytest

from aiopoll import Context, Iocb, SubmitError
from aiopoll.libaio import io_prep_pread, io_prep_pwrite, iocb


def test_io_submit03(machine, ctx, tmp_path: Path) -> None:
    def submit(prep, fd: int, ctx=ctx) -> int:
        cb = iocb()
        prep(cb, fd, bytearray(100), 100, 0)
        return machine.io_submit(ctx, 1, [cb])

    read_only = machine.open(tmp_path / "read", os.O_RDONLY | os.O_CREAT)
    write_only = machine.open(tmp_path / "write", os.O_WRONLY | os.O_CREAT)
    assert submit(io_prep_pread, read_only, machine.new_context()) == -errno.EINVAL
    assert machine.io_submit(ctx, -1, None) == -errno.EINVAL
    assert machine.io_submit(ctx, 1, None) == -errno.EFAULT
    assert machine.io_submit(ctx, 1, [None]) == -errno.EFAULT
    assert submit(io_prep_pwrite, read_only) == -errno.EBADF
    assert submit(io_prep_pread, write_only) == -errno.EBADF
    machine.close(read_only)
    machine.close(write_only)
    assert submit(io_prep_pread, read_only) == -errno.EBADF


def test_context_that_is_closed() -> None:
    context = Context(1)
    context.close()
    with pytest.raises(ValueError, match="closed"):
        context.submit([Iocb.pread(0, bytearray(1))])


@pytest.mark.parametrize("iocbs", [None, -1, [None], [-1]])
def test_context_with_bad_requests(context: Context, iocbs: object) -> None:
    with pytest.raises(TypeError):
        context.submit(iocbs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "request_for"),
    [(os.O_RDONLY, Iocb.pwrite), (os.O_WRONLY, Iocb.pread)],
    ids=["write to O_RDONLY", "read from O_WRONLY"],
)
def test_context_with_bad_mode(context: Context, tmp_path: Path, flags: int, request_for) -> None:
    fd = os.open(tmp_path / "file", flags | os.O_CREAT, 0o600)
    try:
        with pytest.raises(SubmitError) as caught:
            context.submit([request_for(fd, bytearray(100))])
    finally:
        os.close(fd)
    assert caught.value.errno == errno.EBADF
    assert caught.value.index == 0


def test_context_with_closed_descriptor(context: Context, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb+") as file:
        request = Iocb.pread(file, bytearray(100))
    with pytest.raises(SubmitError) as caught:
        context.submit([request])
    assert caught.value.errno == errno.EBADF
