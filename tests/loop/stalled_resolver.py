"""Looks up a name in a loop, with a name server that never responds.

In namespaces of its own, for root or where users may make them: exit status 77 where they may not.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys
import tempfile
from pathlib import Path

import aiopoll

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
REFUSED = 77
libc = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def set_up(folder: Path) -> socket.socket:
    """The socket of a name server that all look-ups go to."""
    user = 0 if os.geteuid() == 0 else CLONE_NEWUSER
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWNET | user))
    check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    for name, text in (
        ("resolv.conf", "nameserver 127.0.0.1\n"),
        ("nsswitch.conf", "hosts: dns\n"),
        ("hosts", ""),
    ):
        (folder / name).write_text(text)
        target = os.path.realpath(f"/etc/{name}")
        if os.path.exists(target):
            check(libc.mount(str(folder / name).encode(), target.encode(), None, MS_BIND, None))
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(server, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    server.bind(("127.0.0.1", 53))
    return server


def report(stall: aiopoll.Stall) -> None:
    print(stall.place.line, stall.system_call, stall.kind, sep=" | ", flush=True)
    os._exit(0)


async def main() -> None:
    socket.getaddrinfo("name.example", 80)


with tempfile.TemporaryDirectory() as folder:
    try:
        server = set_up(Path(folder))
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)
    aiopoll.run(main(), watch_stalls=0.05, on_stall=report)
