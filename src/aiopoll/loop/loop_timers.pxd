"""The timers of an event loop."""

from libc.stdint cimport int64_t, uint32_t

from aiopoll.loop.handles cimport TimerOwner

cdef extern from "timer_heap.h" nogil:
    struct timer:
        double when
        uint32_t slot

    struct timer_heap:
        timer *timers
        uint32_t count

    int64_t timer_heap_push(timer_heap *heap, double when)
    uint32_t timer_heap_pop(timer_heap *heap)
    void timer_heap_drop(timer_heap *heap, uint32_t at)
    void timer_heap_mend(timer_heap *heap)
    void timer_heap_clear(timer_heap *heap)
    bint timer_heap_is_sparse(const timer_heap *heap)
    void timer_heap_fit(timer_heap *heap)

cdef class LoopTimers(TimerOwner):
    cdef timer_heap timers
    cdef list timer_handles
    cdef uint32_t timers_cancelled
    cdef bint forever  # run_forever() runs it
    cdef public bint _closed

    cdef int check_open(self) except -1
    cdef object schedule_at(self, object when, object callback, tuple args, object context)
    cdef object pop_timer(self)
    cdef int sweep_timers(self) except -1
    cdef int fit_timers(self) except -1
    cdef int drop_cancelled(self) except -1
