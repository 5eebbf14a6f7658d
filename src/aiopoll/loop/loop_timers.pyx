"""The timers of an event loop: call_at(), call_later(), and the heap.

Facts.  Most timers are timeouts, which are cancelled long before their time.

Rule.  The heap (c/timer_heap.h) has deadlines and numbers of slots; a list has the handles by slot.
What was cancelled stays until it is next, or until more than half of the timers are cancelled.

Why.  The heap moves 16 bytes, and no reference is counted; a sweep now and then costs less than a
search for each timer that is cancelled.

Cost.  A cancelled timer takes its memory until then.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from aiopoll.loop.handles cimport (
    TimerOwner, check_here, drop_handle, is_cancelled, is_elsewhere, is_scheduled,
    new_timer_handle, set_gc_tracking, set_scheduled,
)

import asyncio

cdef enum:
    SWEEP_MIN = 100  # cancelled timers are swept when they are more than this and than half
    HIDE_MIN = 64  # contexts that wait, from which on it is worth hiding them from the collector


cdef inline double monotonic() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


@cython.no_gc_clear  # as TimerOwner
cdef class LoopTimers(TimerOwner):
    """The part of a loop that has its timers."""

    def __cinit__(self, *args, **options):
        # Closed until asyncio's constructor says otherwise: __del__ looks at it.
        self._closed = True
        self.timer_handles = []

    def __dealloc__(self):
        timer_heap_clear(&self.timers)

    def _timer_count(self):
        return self.timers.count

    def _timer_at(self, Py_ssize_t index):
        """The timer at a place of the heap; IndexError beyond its end."""
        if not 0 <= index < self.timers.count:
            raise IndexError("list index out of range")
        return self.timer_handles[self.timers.timers[index].slot]

    def _clear_timers(self):
        timer_heap_clear(&self.timers)
        self.timer_handles = []
        self.timers_cancelled = 0

    cdef int check_open(self) except -1:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        return 0

    def time(self):
        """The loop's clock, CLOCK_MONOTONIC, in seconds."""
        return monotonic()

    cdef object schedule_at(self, object when, object callback, tuple args, object context):
        cdef bint debug = self._debug
        cdef double deadline = when  # the handle keeps what was given, an int too
        cdef int64_t slot
        self.check_open()
        check_here(self)
        if debug:
            self._check_thread()
            self._check_callback(callback, "call_at")
            handle = asyncio.TimerHandle(when, callback, args, self, context)
        else:
            handle = new_timer_handle(when, callback, args, self, context)
        # NaN is neither before nor after anything: it is due at once, as in asyncio.
        slot = timer_heap_push(&self.timers, deadline if deadline == deadline else 0)
        if slot < 0:
            raise MemoryError
        if slot == len(self.timer_handles):
            self.timer_handles.append(handle)
        else:
            self.timer_handles[slot] = handle
        if not debug:
            set_gc_tracking(handle, self.forever, context is None and self.timers.count >= HIDE_MIN)
        set_scheduled(handle, True)
        return handle

    def call_at(self, when, callback, *args, context=None):
        """Calls `callback` when time() reaches `when`, in seconds; returns its TimerHandle."""
        if when is None:
            raise TypeError("when cannot be None")
        return self.schedule_at(when, callback, args, context)

    def call_later(self, delay, callback, *args, context=None):
        """Calls `callback` after `delay` seconds; returns its TimerHandle."""
        if delay is None:
            raise TypeError("delay must not be None")
        # Through the attribute: programs replace `loop.time`.
        return self.schedule_at(self.time() + delay, callback, args, context)

    def _timer_handle_cancelled(self, handle):
        self.timer_cancelled(handle)

    cdef int timer_cancelled(self, object handle) except -1:
        if is_elsewhere(self) or not is_scheduled(handle):
            return 0  # the loop drops it when its time has come
        self.timers_cancelled += 1
        if self.timers_cancelled > SWEEP_MIN and self.timers_cancelled > self.timers.count // 2:
            self.sweep_timers()
            # This one says only after the call that it is cancelled.
            self.timers_cancelled = 1
        return 0

    cdef object pop_timer(self):
        cdef uint32_t slot = timer_heap_pop(&self.timers)
        handle = self.timer_handles[slot]
        self.timer_handles[slot] = None
        set_scheduled(handle, False)
        return handle

    cdef int sweep_timers(self) except -1:
        """Throws out what was cancelled."""
        cdef uint32_t at = 0, slot
        cdef list dropped = []  # kept to the end: a finalizer may call back into the loop
        while at < self.timers.count:
            slot = self.timers.timers[at].slot
            handle = self.timer_handles[slot]
            if is_cancelled(handle):
                dropped.append(handle)
                self.timer_handles[slot] = None
                set_scheduled(handle, False)
                timer_heap_drop(&self.timers, at)
            else:
                at += 1
        timer_heap_mend(&self.timers)
        handle = None
        while dropped:
            drop_handle(dropped.pop())
        return 0

    cdef int fit_timers(self) except -1:
        """Gives back what more timers needed than there are now; their slots get new numbers."""
        cdef uint32_t at
        cdef list handles = [self.timer_handles[self.timers.timers[at].slot]
                             for at in range(self.timers.count)]
        for at in range(self.timers.count):
            self.timers.timers[at].slot = at
        timer_heap_fit(&self.timers)
        self.timer_handles = handles
        return 0

    cdef int drop_cancelled(self) except -1:
        """Throws out the cancelled timers that are next."""
        while self.timers.count and is_cancelled(self.timer_handles[self.timers.timers[0].slot]):
            drop_handle(self.pop_timer())
            if self.timers_cancelled:
                self.timers_cancelled -= 1
        return 0
