"""include/uapi/linux/{eventpoll,aio_abi,fs}.h: numbers shared by the kernel and its users.

Facts: the EPOLL* bits equal the POLL* bits on x86-64, so one set serves poll, epoll and aio.
Rule: kernel names and values verbatim; nothing here has behaviour except `error`.
Left out: every number that no module of this package uses.
"""

from __future__ import annotations

import os
import socket
from typing import Final

EPOLLIN: Final = 0x001
EPOLLPRI: Final = 0x002
EPOLLOUT: Final = 0x004
EPOLLERR: Final = 0x008
EPOLLHUP: Final = 0x010
EPOLLNVAL: Final = 0x020
EPOLLRDNORM: Final = 0x040
EPOLLRDBAND: Final = 0x080
EPOLLWRNORM: Final = 0x100
EPOLLWRBAND: Final = 0x200
EPOLLMSG: Final = 0x400
EPOLLRDHUP: Final = 0x2000
EPOLLEXCLUSIVE: Final = 1 << 28
EPOLLWAKEUP: Final = 1 << 29
EPOLLONESHOT: Final = 1 << 30
EPOLLET: Final = 1 << 31

# The mask of a file without a poll method: always readable, always writable.
DEFAULT_POLLMASK: Final = EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM

EPOLL_CTL_ADD: Final = 1
EPOLL_CTL_DEL: Final = 2
EPOLL_CTL_MOD: Final = 3

O_ACCMODE: Final = 0o3
LONG_MAX: Final = (1 << 63) - 1
PAGE_SIZE: Final = 4096
NSEC_PER_SEC: Final = 1_000_000_000

# What the socket and os modules of other systems lack, by Linux' numbers: the kernel in here is
# Linux on them too.
O_DIRECT: Final[int] = int(getattr(os, "O_DIRECT", 0o40000))
O_NOATIME: Final[int] = int(getattr(os, "O_NOATIME", 0o1000000))
O_TMPFILE: Final[int] = int(getattr(os, "O_TMPFILE", 0o20000000 | os.O_DIRECTORY))
AF_ALG: Final[int] = int(getattr(socket, "AF_ALG", 38))
ALG_SET_KEY: Final[int] = int(getattr(socket, "ALG_SET_KEY", 1))
MSG_MORE: Final[int] = int(getattr(socket, "MSG_MORE", 0x8000))
MSG_NOSIGNAL: Final[int] = int(getattr(socket, "MSG_NOSIGNAL", 0x4000))
SO_DOMAIN: Final[int] = int(getattr(socket, "SO_DOMAIN", 39))
SO_PROTOCOL: Final[int] = int(getattr(socket, "SO_PROTOCOL", 38))
TCP_INFO: Final[int] = int(getattr(socket, "TCP_INFO", 11))
TCP_LINGER2: Final[int] = int(getattr(socket, "TCP_LINGER2", 8))
TCP_QUICKACK: Final[int] = int(getattr(socket, "TCP_QUICKACK", 12))
TCP_SYNCNT: Final[int] = int(getattr(socket, "TCP_SYNCNT", 7))
TCP_USER_TIMEOUT: Final[int] = int(getattr(socket, "TCP_USER_TIMEOUT", 18))
TCP_KEEPIDLE: Final[int] = int(getattr(socket, "TCP_KEEPIDLE", 4))
SCM_CREDENTIALS: Final[int] = int(getattr(socket, "SCM_CREDENTIALS", 2))
SOCK_CLOEXEC: Final[int] = int(getattr(socket, "SOCK_CLOEXEC", 0o2000000))
SOCK_NONBLOCK: Final[int] = int(getattr(socket, "SOCK_NONBLOCK", 0o4000))


class BadAddress:
    """A pointer that faults: any argument that stands for user memory takes it (EFAULT)."""

    def __repr__(self) -> str:
        return "BADPTR"


BADPTR: Final = BadAddress()


def error(code: int) -> OSError:
    """Return the exception for -`code`: internal functions and system calls raise it."""
    return OSError(code, os.strerror(code))
