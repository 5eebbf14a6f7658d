"""The timers of a loop, which asyncio calls `_scheduled`, for code that reads them.

Facts.  asyncio has a list there, a heap of TimerHandles; libraries and debuggers read its length,
its first, and all of it.  nest_asyncio, which runs the iterations in the loop's place, takes from
it by heapq.heappop(), which works on true lists only.

Rule.  The heap is LoopCore's; a view looks at it as it is at that moment.  As in asyncio it is in
the order of a heap: the first is the next, and what was cancelled stays until it is thrown out.
Where other code runs the iterations the list is empty: what is due is in the ready queue when
select() returns.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, overload

if TYPE_CHECKING:
    from aiopoll.loop.core import LoopCore


class TimerView(Sequence[asyncio.TimerHandle]):
    """The timers of a loop, to be read; they are added by call_at()."""

    def __init__(self, loop: "LoopCore") -> None:
        self._loop = loop

    def __len__(self) -> int:
        return self._loop._timer_count()

    @overload
    def __getitem__(self, index: int) -> asyncio.TimerHandle: ...
    @overload
    def __getitem__(self, index: slice) -> list[asyncio.TimerHandle]: ...
    def __getitem__(self, index: int | slice) -> asyncio.TimerHandle | list[asyncio.TimerHandle]:
        if isinstance(index, slice):
            return [self._loop._timer_at(i) for i in range(*index.indices(len(self)))]
        return self._loop._timer_at(index + len(self) if index < 0 else index)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (list, TimerView)):
            return list(self) == list(other)
        return NotImplemented

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))

    def clear(self) -> None:
        """Forgets all timers, as close() does."""
        self._loop._clear_timers()
