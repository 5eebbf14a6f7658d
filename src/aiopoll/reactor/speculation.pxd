"""Which readers are dispatched again before they are armed again."""

from libc.stdint cimport uint64_t

from aiopoll.reactor.registration cimport Registration

cdef extern from "speculation.h" nogil:
    ctypedef struct Worth "struct speculation":
        pass

cdef class Speculation:
    cdef list next
    cdef Worth worth
    cdef uint64_t tried
    cdef uint64_t found

    cdef bint read_done(self, Registration registration, bint hit) except -1
    cdef list take(self)
