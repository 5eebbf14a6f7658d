"""io_submit03: Context.submit with a closed context, bad requests and bad descriptors."""

import errno
import os
from pathlib import Path

import pytest

from aiopoll import Context, Iocb, SubmitError


def test_bad_context(rw_fd: int) -> None:
    context = Context(1)
    context.close()
    with pytest.raises(ValueError, match="closed"):
        context.submit([Iocb.pread(rw_fd, bytearray(1))])


@pytest.mark.parametrize("iocbs", [None, -1, [None], [-1]])
def test_bad_requests(context: Context, iocbs: object) -> None:
    with pytest.raises(TypeError):
        context.submit(iocbs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "request_for"),
    [(os.O_RDONLY, Iocb.pwrite), (os.O_WRONLY, Iocb.pread)],
    ids=["write to O_RDONLY", "read from O_WRONLY"],
)
def test_bad_mode(context: Context, tmp_path: Path, flags: int, request_for) -> None:
    fd = os.open(tmp_path / "file", flags | os.O_CREAT, 0o600)
    try:
        with pytest.raises(SubmitError) as caught:
            context.submit([request_for(fd, bytearray(100))])
    finally:
        os.close(fd)
    assert caught.value.errno == errno.EBADF
    assert caught.value.index == 0


def test_closed_descriptor(context: Context, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb+") as file:
        request = Iocb.pread(file, bytearray(100))
    with pytest.raises(SubmitError) as caught:
        context.submit([request])
    assert caught.value.errno == errno.EBADF
