"""Sockets to wait for, and the rings that are mapped."""

import socket
from pathlib import Path


def rings() -> int:
    """The AIO rings mapped into this process: one for each of its live contexts."""
    return Path("/proc/self/maps").read_text(encoding="utf-8").count("[aio]")


def stream_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, non-blocking."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs
