"""How long callbacks wait and run, and where a loop's time goes."""

from libc.stdint cimport int64_t, uint64_t

from aiopoll.reactor.ready_queue cimport ReadyQueue
from aiopoll.reactor.reactor cimport Reactor

cdef extern from "histogram.h" nogil:
    enum:
        HISTOGRAM_BOUNDS

    const int64_t histogram_bounds_ns[HISTOGRAM_BOUNDS]

    ctypedef struct Histogram "struct histogram":
        uint64_t counts[HISTOGRAM_BOUNDS + 1]
        int64_t sum_ns

    void histogram_add(Histogram *histogram, int64_t time_ns)

cdef class Meter:
    cdef int64_t now_ns  # the end of what was measured last
    cdef int64_t polled_at_ns  # when the last poll ended
    cdef int64_t slept_before_ns  # the reactor's slept_ns when the poll began
    cdef int64_t polling_ns
    cdef int64_t sleeping_ns
    cdef Histogram lag
    cdef Histogram duration

    cdef int begin_run(self) noexcept
    cdef int begin_poll(self, Reactor reactor) except -1
    cdef int end_poll(self, Reactor reactor) except -1
    cdef int64_t due_at_ns(self, double late) noexcept
    cdef int begin_callback(self, ReadyQueue ready) noexcept
    cdef int end_callback(self) noexcept
