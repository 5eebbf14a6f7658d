"""Nothing here is for Python code; other compiled modules use it."""

import asyncio
from typing import final

from typing_extensions import disjoint_base

SLOTS: frozenset[str]
TIMER_SLOTS: frozenset[str]

@disjoint_base
class TimerOwner:
    _debug: bool
    _thread_id: int | None

class TimerHandle(asyncio.TimerHandle):
    def cancel(self) -> None: ...

@final
class Handles: ...
