"""How long callbacks wait and run, and where a loop's time goes.

Facts.  A reading of the clock takes 20 to 30 ns, a callback of an echo some microseconds.

Rule.  The clock is read where one thing ends and the next one begins: as a wait in the kernel
begins and ends, as the poll ends, and after each callback.  What is between two readings belongs to
the callback, the poll or the sleep.  A callback waits from its push into the ready queue: a file's
from the end of the sleep that it ended, or from the poll's beginning; a timer's from its
deadline; all others' from the call that queued it.

Cost.  Three readings an iteration and one a callback: of an echo's CPU time 0.4 hundredths with one
connection or a hundred, one hundredth with ten.  While nothing is measured, the test of a pointer.

What a callback takes is the time on the clock, also while other threads have the GIL or the CPU.
"""

from libc.stdint cimport INT64_MAX

from aiopoll.aio.clock cimport clock_ns

BOUNDS = tuple([histogram_octaves[i].bound_ns / 1e9 for i in range(64)
                if histogram_octaves[i].bound_ns != INT64_MAX])
"""The upper bounds of the buckets but the last, in seconds."""


cdef tuple read_histogram(const Histogram *histogram):
    """The counts of the buckets, and the sum in seconds."""
    return (tuple([histogram.counts[i] for i in range(HISTOGRAM_BOUNDS + 1)]),
            histogram.sum_ns / 1e9)


cdef class Meter:
    """Measures a loop from the moment it is made."""

    def __cinit__(self):
        self.begin_run()

    cdef int begin_run(self) noexcept:
        """Leaves out the time during which the loop did not run."""
        self.now_ns = self.polled_at_ns = clock_ns()
        return 0

    cdef int64_t due_at_ns(self, double late) noexcept:
        """When a timer became due that is so many seconds late.

        At the earliest as the last poll ended: it took all that were due by then.
        """
        cdef int64_t now_ns = clock_ns()
        late = min(late * 1e9, <double>(now_ns - self.polled_at_ns))
        return now_ns - <int64_t>max(late, 0.0)

    def read(self):
        """Returns (lag, duration, polling, sleeping), two histograms and seconds.

        A histogram is (counts, sum): what is above the last bound is the last count.
        """
        return (read_histogram(&self.lag), read_histogram(&self.duration),
                self.polling_ns / 1e9, self.sleeping_ns / 1e9)
