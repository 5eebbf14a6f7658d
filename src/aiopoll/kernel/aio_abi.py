"""include/uapi/linux/aio_abi.h: iocb and io_event as users fill and read them.

Rule: fields and constants verbatim. User memory is a Python object here: In reads and writes
`memory` holds the object that `aio_buf` points to: a buffer, a `Mapping`, or for vectors a list of
them. In a poll `aio_buf` is the event mask. An object is its own address: io_cancel looks for
it.
Left out: the byte layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

IOCB_CMD_PREAD: Final = 0
IOCB_CMD_PWRITE: Final = 1
IOCB_CMD_FSYNC: Final = 2
IOCB_CMD_FDSYNC: Final = 3
IOCB_CMD_POLL: Final = 5
IOCB_CMD_NOOP: Final = 6
IOCB_CMD_PREADV: Final = 7
IOCB_CMD_PWRITEV: Final = 8

IOCB_FLAG_RESFD: Final = 1
IOCB_FLAG_IOPRIO: Final = 2

RWF_HIPRI: Final = 0x01
RWF_DSYNC: Final = 0x02
RWF_SYNC: Final = 0x04
RWF_NOWAIT: Final = 0x08
RWF_APPEND: Final = 0x10
RWF_SUPPORTED: Final = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND

AIO_RING_MAGIC: Final = 0xA10A10A1


@dataclass(eq=False)
class Iocb:
    """struct iocb."""

    aio_lio_opcode: int = IOCB_CMD_NOOP
    aio_fildes: int = -1
    aio_buf: int = 0
    aio_nbytes: int = 0
    aio_offset: int = 0
    aio_data: Any = 0
    aio_key: int = 0
    aio_rw_flags: int = 0
    aio_reqprio: int = 0
    aio_reserved2: int = 0
    aio_flags: int = 0
    aio_resfd: int = 0
    memory: Any = field(default=None, repr=False)

    @classmethod
    def poll(cls, fd: int, events: int, data: Any = 0) -> Iocb:
        """Wait once until `fd` is ready for `events`; res is the mask."""
        return cls(IOCB_CMD_POLL, fd, events, aio_data=data)

    @classmethod
    def pread(cls, fd: int, buffer: Any, offset: int = 0, data: Any = 0, flags: int = 0) -> Iocb:
        """Read into `buffer`; res is the count."""
        size = memoryview(buffer).nbytes
        return cls(IOCB_CMD_PREAD, fd, 0, size, offset, data, aio_rw_flags=flags, memory=buffer)

    @classmethod
    def pwrite(cls, fd: int, buffer: Any, offset: int = 0, data: Any = 0, flags: int = 0) -> Iocb:
        """Write `buffer`; res is the count."""
        size = memoryview(buffer).nbytes
        return cls(IOCB_CMD_PWRITE, fd, 0, size, offset, data, aio_rw_flags=flags, memory=buffer)

    @classmethod
    def preadv(cls, fd: int, buffers: list[Any], offset: int = 0, data: Any = 0) -> Iocb:
        """Read into several buffers; res is the count."""
        return cls(IOCB_CMD_PREADV, fd, 0, len(buffers), offset, data, memory=buffers)

    @classmethod
    def pwritev(cls, fd: int, buffers: list[Any], offset: int = 0, data: Any = 0) -> Iocb:
        """Write several buffers; res is the count."""
        return cls(IOCB_CMD_PWRITEV, fd, 0, len(buffers), offset, data, memory=buffers)

    @classmethod
    def fsync(cls, fd: int, data: Any = 0) -> Iocb:
        """fsync; res is 0 or -errno."""
        return cls(IOCB_CMD_FSYNC, fd, aio_data=data)

    @classmethod
    def fdsync(cls, fd: int, data: Any = 0) -> Iocb:
        """fdatasync; res is 0 or -errno."""
        return cls(IOCB_CMD_FDSYNC, fd, aio_data=data)


@dataclass(frozen=True)
class IoEvent:
    """struct io_event: `data` and `obj` are the request's, `res` its result or -errno."""

    data: Any
    obj: Iocb
    res: int
    res2: int = 0
