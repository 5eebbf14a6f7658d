from asyncio import TimerHandle
from collections.abc import Callable
from contextvars import Context
from typing import TypeVarTuple

from typing_extensions import disjoint_base

from aiopoll.loop.handles import TimerOwner

_Ts = TypeVarTuple("_Ts")

@disjoint_base
class LoopTimers(TimerOwner):
    _closed: bool

    def _clear_timers(self) -> None: ...
    def _timer_count(self) -> int: ...
    def _timer_at(self, index: int) -> TimerHandle: ...
    def time(self) -> float: ...
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
    def _timer_handle_cancelled(self, handle: TimerHandle) -> None: ...
