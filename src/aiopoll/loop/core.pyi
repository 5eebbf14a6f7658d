from asyncio import Future, Handle, Task, TimerHandle
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from typing_extensions import disjoint_base

from aiopoll.loop.handle_queue import HandleQueue
from aiopoll.loop.loop_timers import LoopTimers
from aiopoll.loop.monitor.places import TaskPlaces
from aiopoll.loop.monitor.tracer import Tracer
from aiopoll.loop.monitor.tracing import Trace
from aiopoll.loop.monitor.watchdog import Watch
from aiopoll.reactor.statistics import ReactorStatistics

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_Measured = tuple[tuple[int, ...], float]

@disjoint_base
class LoopCore(LoopTimers):
    _stopping: bool
    _current_handle: Handle | None
    _task_factory: Any
    _clock_resolution: float
    _ready: HandleQueue
    _aiopoll_files: Any
    _scheduled: Sequence[TimerHandle]

    def _open_reactor(
        self,
        backend: str,
        nr_events: int,
        user_ring: bool | None,
        busy_poll_ns: int,
        wait: str | None,
    ) -> None: ...
    def _close_reactor(self) -> None: ...
    def _watch_by(self, watch: Watch | None, places: TaskPlaces | None) -> None: ...
    _gather_writes: bool
    _task_places: TaskPlaces | None
    stall_count: int
    @property
    def backend(self) -> str: ...
    def statistics(self) -> ReactorStatistics: ...
    def start_metrics(self) -> None: ...
    def stop_metrics(self) -> None: ...
    def _measured(self) -> tuple[_Measured, _Measured, float, float] | None: ...
    def _counted(self) -> tuple[int, int, int, int, int]: ...
    _trace: Trace | None
    @property
    def _tracer(self) -> Tracer | None: ...
    def _use_tracer(self, tracer: Tracer | None) -> None: ...
    def events_pending(self) -> bool: ...
    def run_forever(self) -> None: ...
    def get_debug(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def create_future(self) -> Future[Any]: ...
    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: object = None,
        context: Context | None = None,
        **options: Any,
    ) -> Task[_T]: ...
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
    def _call_soon(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> Handle: ...
    def _write_to_self(self) -> None: ...
    def _run_once(self) -> None: ...
    def _select(self, timeout: float | None) -> None: ...
