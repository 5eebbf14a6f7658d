"""Case 10: a file system that is full: short across its end, ENOSPC at it, 0 when read past it.

The file system is a tmpfs of 64 KiB, mounted by a child for itself.
"""

import errno
import os
from pathlib import Path

import pytest

from aiopoll.libaio import io_prep_pread, io_prep_pwrite

pytestmark = pytest.mark.subprocess

LIMIT = SIZE = 65536


def test_full_file_system(machine, tmp_path: Path, attempt, skip_reason) -> None:
    refused = tmp_path / "refused"
    mount_point = tmp_path / "small"
    mount_point.mkdir()

    def body() -> None:
        try:
            machine.mount(mount_point, LIMIT)
        except OSError:
            refused.touch()
            return
        fd = machine.open(mount_point / "rwfile", os.O_RDWR | os.O_CREAT)
        ctx = machine.new_context()
        assert machine.io_queue_init(1, ctx) == 0
        buf = bytearray(SIZE)
        assert attempt(ctx, io_prep_pwrite, fd, buf, SIZE, LIMIT - SIZE) == SIZE
        assert attempt(ctx, io_prep_pread, fd, buf, SIZE, LIMIT - SIZE) == SIZE
        assert attempt(ctx, io_prep_pwrite, fd, buf, SIZE, LIMIT) == -errno.ENOSPC
        assert attempt(ctx, io_prep_pread, fd, buf, SIZE, LIMIT) == 0
        machine.ftruncate(fd, 0)
        assert attempt(ctx, io_prep_pwrite, fd, buf, SIZE, LIMIT - SIZE + 1) == SIZE - 1
        assert attempt(ctx, io_prep_pread, fd, buf, SIZE, LIMIT - SIZE + 1) == SIZE - 1
        assert attempt(ctx, io_prep_pread, fd, buf, SIZE, LIMIT) == 0
        assert attempt(ctx, io_prep_pwrite, fd, buf, SIZE, LIMIT) == -errno.ENOSPC
        assert attempt(ctx, io_prep_pwrite, fd, buf, 0, LIMIT) == 0
        assert machine.io_destroy(ctx) == 0

    machine.in_child(body)
    if refused.exists():
        pytest.skip(skip_reason("libaio case 10: no mount allowed"))
