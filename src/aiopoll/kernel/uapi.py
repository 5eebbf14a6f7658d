"""include/uapi/linux/{eventpoll,aio_abi,fs}.h: numbers shared by the kernel and its users.

Facts: the EPOLL* bits equal the POLL* bits on x86-64, so one set serves poll, epoll and aio.
Rule: kernel names and values verbatim; nothing here has behaviour except `error`.
Left out: every number that no module of this package uses.
"""

from __future__ import annotations

import os
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


class BadAddress:
    """A pointer that faults: any argument that stands for user memory takes it (EFAULT)."""

    def __repr__(self) -> str:
        return "BADPTR"


BADPTR: Final = BadAddress()


def error(code: int) -> OSError:
    """Return the exception for -`code`: internal functions and system calls raise it."""
    return OSError(code, os.strerror(code))
