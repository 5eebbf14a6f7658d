"""Sockets to wait for, and this process's open files and mappings."""

import gc
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def rings() -> int:
    """The AIO rings mapped into this process: one for each of its live contexts."""
    return Path("/proc/self/maps").read_text(encoding="utf-8").count("[aio]")


def open_files() -> dict[int, str]:
    """The descriptors of this process, and their files."""
    files = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            files[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # the one that listdir had open
    return files


def open_count() -> int:
    """How many descriptors this process has, and one more for the look."""
    return len(os.listdir("/proc/self/fd"))


def stream_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, non-blocking."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


@contextmanager
def stranger_with(fd: int) -> Iterator[None]:
    """Another file gets the number, which must be free, and must have it still at the end."""
    assert fd not in open_files()
    own = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
    if own != fd:
        os.dup2(own, fd)
        os.close(own)
    yield
    gc.collect()
    assert open_files().get(fd) == "/dev/zero", "the file of a stranger was closed"
    os.close(fd)
