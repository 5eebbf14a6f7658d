import sys
from collections.abc import Iterable
from typing import Any, Protocol, Self, final

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    from typing_extensions import Buffer

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

@final
class Iocb:
    def __new__(
        cls,
        opcode: int,
        fd: int,
        buf: Buffer | Iterable[Buffer] | int | None = None,
        *,
        offset: int = 0,
        nbytes: int = 0,
        rw_flags: int = 0,
        ioprio: int | None = None,
        resfd: int | None = None,
        data: Any = None,
    ) -> Self: ...
    @staticmethod
    def poll(
        fd: int | _HasFileno, events: int, *, data: Any = None, resfd: int | None = None
    ) -> Iocb: ...
    @staticmethod
    def pread(
        fd: int | _HasFileno,
        buffer: Buffer,
        offset: int = 0,
        *,
        rw_flags: int = 0,
        ioprio: int | None = None,
        data: Any = None,
        resfd: int | None = None,
    ) -> Iocb: ...
    @staticmethod
    def pwrite(
        fd: int | _HasFileno,
        buffer: Buffer,
        offset: int = 0,
        *,
        rw_flags: int = 0,
        ioprio: int | None = None,
        data: Any = None,
        resfd: int | None = None,
    ) -> Iocb: ...
    @staticmethod
    def preadv(
        fd: int | _HasFileno,
        buffers: Iterable[Buffer],
        offset: int = 0,
        *,
        rw_flags: int = 0,
        ioprio: int | None = None,
        data: Any = None,
        resfd: int | None = None,
    ) -> Iocb: ...
    @staticmethod
    def pwritev(
        fd: int | _HasFileno,
        buffers: Iterable[Buffer],
        offset: int = 0,
        *,
        rw_flags: int = 0,
        ioprio: int | None = None,
        data: Any = None,
        resfd: int | None = None,
    ) -> Iocb: ...
    @staticmethod
    def fsync(fd: int | _HasFileno, *, data: Any = None, resfd: int | None = None) -> Iocb: ...
    @staticmethod
    def fdsync(fd: int | _HasFileno, *, data: Any = None, resfd: int | None = None) -> Iocb: ...
    @property
    def opcode(self) -> int: ...
    @property
    def fd(self) -> int: ...
    @property
    def buf(self) -> Any: ...
    @property
    def offset(self) -> int: ...
    @property
    def rw_flags(self) -> int: ...
    @property
    def ioprio(self) -> int | None: ...
    @property
    def resfd(self) -> int | None: ...
    @property
    def data(self) -> Any: ...

@final
class IoEvent:
    @property
    def data(self) -> Any: ...
    @property
    def obj(self) -> Iocb: ...
    @property
    def res(self) -> int: ...
    @property
    def res2(self) -> int: ...
    def result(self) -> int: ...
