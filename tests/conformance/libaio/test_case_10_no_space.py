"""Case 10: a file system that is full: short across its end, ENOSPC at it, 0 when read past it.

The file system is a tmpfs of 64 KiB in a mount namespace of the child's own, made with a user
namespace where the tests do not run as root; it goes with the child.
"""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from aiopoll.libaio import (
    io_context_t,
    io_destroy,
    io_prep_pread,
    io_prep_pwrite,
    io_queue_init,
)

LIMIT = SIZE = 65536
CLONE_NEWNS = 0x20000
CLONE_NEWUSER = 0x10000000
MS_REC = 0x4000
MS_PRIVATE = 0x40000


def mount_small_tmpfs(directory: Path) -> None:
    """In a mount namespace of this process's own.  Raises OSError where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int) -> None:
        if result != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    uid, gid = os.geteuid(), os.getegid()
    check(libc.unshare(CLONE_NEWNS if uid == 0 else CLONE_NEWNS | CLONE_NEWUSER))
    if uid != 0:
        # Without a mapping nothing could be created: whose would it be?
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")
    check(libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None))
    options = f"size={LIMIT}".encode()
    check(libc.mount(b"tmpfs", bytes(directory), b"tmpfs", ctypes.c_ulong(0), options))


def test_full_file_system(tmp_path: Path, attempt, in_child, gap) -> None:
    refused = tmp_path / "refused"
    mount_point = tmp_path / "small"
    mount_point.mkdir()

    def body() -> None:
        try:
            mount_small_tmpfs(mount_point)
        except OSError:
            refused.touch()
            return
        fd = os.open(mount_point / "rwfile", os.O_RDWR | os.O_CREAT, 0o600)
        ctx = io_context_t()
        assert io_queue_init(1, ctx) == 0
        buf = bytearray(SIZE)
        assert attempt(ctx, io_prep_pwrite, fd, buf, SIZE, LIMIT - SIZE) == SIZE
        assert attempt(ctx, io_prep_pread, fd, buf, SIZE, LIMIT - SIZE) == SIZE
        assert attempt(ctx, io_prep_pwrite, fd, buf, SIZE, LIMIT) == -errno.ENOSPC
        assert attempt(ctx, io_prep_pread, fd, buf, SIZE, LIMIT) == 0
        os.ftruncate(fd, 0)
        assert attempt(ctx, io_prep_pwrite, fd, buf, SIZE, LIMIT - SIZE + 1) == SIZE - 1
        assert attempt(ctx, io_prep_pread, fd, buf, SIZE, LIMIT - SIZE + 1) == SIZE - 1
        assert attempt(ctx, io_prep_pread, fd, buf, SIZE, LIMIT) == 0
        assert attempt(ctx, io_prep_pwrite, fd, buf, SIZE, LIMIT) == -errno.ENOSPC
        assert attempt(ctx, io_prep_pwrite, fd, buf, 0, LIMIT) == 0
        assert io_destroy(ctx) == 0

    in_child(body)
    if refused.exists():
        pytest.skip(gap("libaio case 10: no mount allowed"))
