"""kernel/time/hrtimer.c and timekeeping.c: a virtual clock and the timers on it.

Facts: CLOCK_MONOTONIC never goes back; CLOCK_REALTIME is the same clock plus an offset.
Rule: time passes only when every task sleeps, and then it jumps to the next timer. A
program that sleeps an hour therefore takes no time, and for one that spins no time passes.
Left out: clock_settime, slack, per-CPU bases, CLOCK_BOOTTIME apart from CLOCK_MONOTONIC.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable


class HrTimer:
    """One timer: calls `function` in interrupt context at `expires_ns` of the virtual clock."""

    __slots__ = ("expires_ns", "function", "generation")

    def __init__(self, function: Callable[[], object]) -> None:
        self.function: Callable[[], object] = function
        self.expires_ns: int | None = None
        self.generation: int = 0

    @property
    def active(self) -> bool:
        return self.expires_ns is not None


class Clock:
    """The virtual clock, in nanoseconds.

    `tie_break` orders timers that expire at the same instant: a seeded kernel shuffles them.
    """

    def __init__(self, realtime_offset_ns: int, tie_break: Callable[[], int]) -> None:
        self.now_ns: int = 0
        self.realtime_offset_ns = realtime_offset_ns
        self._tie_break = tie_break
        self._sequence = 0
        self._heap: list[tuple[int, int, int, int, HrTimer]] = []

    def start(self, timer: HrTimer, expires_ns: int) -> None:
        """Arm `timer` for the absolute time `expires_ns`; an armed timer is moved."""
        timer.generation += 1
        timer.expires_ns = expires_ns
        self._sequence += 1
        entry = (expires_ns, self._tie_break(), self._sequence, timer.generation, timer)
        heapq.heappush(self._heap, entry)

    def cancel(self, timer: HrTimer) -> bool:
        """Disarm `timer`; returns whether it was armed."""
        was_active = timer.active
        timer.generation += 1
        timer.expires_ns = None
        return was_active

    def next_expiry_ns(self) -> int | None:
        """Return when the next armed timer fires, or None."""
        heap = self._heap
        while heap and heap[0][3] != heap[0][4].generation:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def fire_next(self) -> bool:
        """Jump to the next timer and run it; returns False when none is armed."""
        expiry = self.next_expiry_ns()
        if expiry is None:
            return False
        timer = heapq.heappop(self._heap)[4]
        self.now_ns = max(self.now_ns, expiry)
        timer.generation += 1
        timer.expires_ns = None
        timer.function()
        return True
