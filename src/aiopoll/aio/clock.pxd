"""The clock of the package."""

from libc.stdint cimport int64_t

cdef extern from "clock.h" nogil:
    int64_t clock_ns()
