"""How long callbacks wait and run, and where a loop's time goes."""

cimport cython
from libc.stdint cimport int64_t, uint64_t

from aiopoll.aio.clock cimport clock_ns
from aiopoll.reactor.reactor cimport Reactor

cdef extern from "histogram.h" nogil:
    enum:
        HISTOGRAM_BOUNDS

    ctypedef struct HistogramOctave "const struct histogram_octave":
        int64_t bound_ns

    const HistogramOctave histogram_octaves[64]

    ctypedef struct Histogram "struct histogram":
        int64_t sum_ns
        uint64_t counts[HISTOGRAM_BOUNDS + 1]

    void histogram_add(Histogram *histogram, int64_t time_ns)

@cython.final
cdef class Meter:
    cdef int64_t now_ns  # the end of what was measured last
    cdef int64_t polled_at_ns  # when the last poll ended
    cdef int64_t slept_before_ns  # the reactor's slept_ns when the poll began
    cdef int64_t polling_ns
    cdef int64_t sleeping_ns
    cdef Histogram lag
    cdef Histogram duration

    cdef int begin_run(self) noexcept
    cdef int64_t due_at_ns(self, double late) noexcept

    # Inline: calls of another module's code, with their checks, were more instructions than these.

    cdef inline int begin_poll(self, Reactor reactor) except -1:
        reactor.sleep_time.on = True
        reactor.sleep_time.woken_at_ns = 0
        self.slept_before_ns = reactor.sleep_time.slept_ns
        reactor.ready.now_ns = self.now_ns
        return 0

    cdef inline int end_poll(self, Reactor reactor) except -1:
        cdef int64_t now_ns = clock_ns()
        cdef int64_t slept_ns = reactor.sleep_time.slept_ns - self.slept_before_ns
        self.sleeping_ns += slept_ns
        self.polling_ns += now_ns - self.now_ns - slept_ns
        self.now_ns = self.polled_at_ns = now_ns
        reactor.ready.now_ns = 0
        return 0

    cdef inline int end_callback(self, int64_t waited_ns) noexcept:
        """Adds how long a callback has waited, and has run."""
        cdef int64_t now_ns = clock_ns()
        histogram_add(&self.lag, waited_ns)
        histogram_add(&self.duration, now_ns - self.now_ns)
        self.now_ns = now_ns
        return 0
