"""kernel/time/hrtimer.c and timekeeping.c: a virtual clock and the timers on it.

Facts: CLOCK_MONOTONIC never goes back; CLOCK_REALTIME is the same clock plus an offset.
Rule: time passes only when every task sleeps, and then it jumps to the next timer. A
program that sleeps an hour therefore takes no time, and for one that spins no time passes.
A place in the heap holds its timer while that is armed. A cancelled timer leaves an empty place,
so it pins nothing; the empty places go when they are more than half of the heap.
Left out: clock_settime, slack, per-CPU bases, CLOCK_BOOTTIME apart from CLOCK_MONOTONIC.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

# As many empty places stay in a heap, however short it is.
FEW_PLACES = 64


class Place:
    """What the heap holds for a timer; empty once the timer was cancelled or moved."""

    __slots__ = ("timer",)

    def __init__(self, timer: HrTimer) -> None:
        self.timer: HrTimer | None = timer


class HrTimer:
    """One timer: calls `function` in interrupt context at `expires_ns` of the virtual clock."""

    __slots__ = ("expires_ns", "function", "place")

    def __init__(self, function: Callable[[], object]) -> None:
        self.function: Callable[[], object] = function
        self.expires_ns: int | None = None
        self.place: Place | None = None

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
        self._heap: list[tuple[int, int, int, Place]] = []
        self._empty = 0

    def __len__(self) -> int:
        """Return how many places the heap has, the empty ones included."""
        return len(self._heap)

    def start(self, timer: HrTimer, expires_ns: int) -> None:
        """Arm `timer` for the absolute time `expires_ns`; an armed timer is moved."""
        if timer.place is not None:
            self._vacate(timer.place)
        place = timer.place = Place(timer)
        timer.expires_ns = expires_ns
        self._sequence += 1
        heapq.heappush(self._heap, (expires_ns, self._tie_break(), self._sequence, place))

    def cancel(self, timer: HrTimer) -> bool:
        """Disarm `timer`; returns whether it was armed."""
        place = timer.place
        if place is None:
            return False
        timer.place = timer.expires_ns = None
        self._vacate(place)
        return True

    def _vacate(self, place: Place) -> None:
        place.timer = None
        self._empty += 1
        if self._empty > FEW_PLACES and 2 * self._empty > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[3].timer is not None]
            heapq.heapify(self._heap)
            self._empty = 0

    def next_expiry_ns(self) -> int | None:
        """Return when the next armed timer fires, or None."""
        heap = self._heap
        while heap and heap[0][3].timer is None:
            heapq.heappop(heap)
            self._empty -= 1
        return heap[0][0] if heap else None

    def fire_next(self) -> bool:
        """Jump to the next timer and run it; returns False when none is armed."""
        expiry = self.next_expiry_ns()
        if expiry is None:
            return False
        timer = heapq.heappop(self._heap)[3].timer
        assert timer is not None
        if expiry > self.now_ns:
            self.now_ns = expiry
        timer.place = timer.expires_ns = None
        timer.function()
        return True
