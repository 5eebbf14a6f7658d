import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Protocol, Self, SupportsFloat, final

from aiopoll._core.statistics import ContextStatistics

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    from typing_extensions import Buffer

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

PREAD: int
PWRITE: int
FSYNC: int
FDSYNC: int
POLL: int
PREADV: int
PWRITEV: int
RWF_HIPRI: int
RWF_DSYNC: int
RWF_SYNC: int
RWF_NOWAIT: int
RWF_APPEND: int

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

@final
class Context:
    def __init__(self, nr_events: int = 128, *, user_ring: bool | None = None) -> None: ...
    def submit(self, iocbs: Iterable[Iocb]) -> int: ...
    def reap(
        self,
        min_nr: int = 1,
        max_nr: int | None = None,
        timeout: SupportsFloat | None = None,
        sigmask: Iterable[int] | None = None,
    ) -> list[IoEvent]: ...
    def getevents(
        self,
        min_nr: int,
        nr: int,
        timeout_ns: int | None = None,
        sigmask: Iterable[int] | None = None,
    ) -> list[IoEvent]: ...
    def cancel(self, iocb: Iocb) -> None: ...
    def adopt(self) -> None: ...
    def close(self) -> None: ...
    def events_pending(self) -> bool: ...
    def statistics(self) -> ContextStatistics: ...
    @property
    def closed(self) -> bool: ...
    @property
    def user_ring(self) -> bool: ...
    @property
    def nr_events(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
