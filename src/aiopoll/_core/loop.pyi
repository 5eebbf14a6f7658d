from asyncio import Handle, TimerHandle
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

from _typeshed import FileDescriptorLike
from typing_extensions import disjoint_base

from aiopoll._core.reactor_statistics import ReactorStatistics

_Ts = TypeVarTuple("_Ts")

@disjoint_base
class LoopCore:
    _debug: bool
    _closed: bool
    _stopping: bool
    _thread_id: int | None
    _current_handle: Handle | None
    _clock_resolution: float
    _ready: deque[Handle]
    _aiopoll_files: Any

    def _open_reactor(
        self, backend: str, nr_events: int, user_ring: bool | None, busy_poll_ns: int
    ) -> None: ...
    def _close_reactor(self) -> None: ...
    def _clear_timers(self) -> None: ...
    def _watched(self) -> dict[int, tuple[Handle | None, Handle | None]]: ...
    @property
    def backend(self) -> str: ...
    def statistics(self) -> ReactorStatistics: ...
    def events_pending(self) -> bool: ...
    def time(self) -> float: ...
    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle: ...
    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def _call_soon(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> Handle: ...
    def _write_to_self(self) -> None: ...
    def _timer_handle_cancelled(self, handle: TimerHandle) -> None: ...
    def _run_once(self) -> None: ...
    def _add_reader(
        self, fd: FileDescriptorLike, callback: Callable[..., object], *args: Any
    ) -> Handle: ...
    def _remove_reader(self, fd: FileDescriptorLike) -> bool: ...
    def _add_writer(
        self, fd: FileDescriptorLike, callback: Callable[..., object], *args: Any
    ) -> Handle: ...
    def _remove_writer(self, fd: FileDescriptorLike) -> bool: ...
    def add_reader(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
    ) -> None: ...
    def remove_reader(self, fd: FileDescriptorLike) -> bool: ...
    def add_writer(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
    ) -> None: ...
    def remove_writer(self, fd: FileDescriptorLike) -> bool: ...
