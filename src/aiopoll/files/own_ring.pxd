"""A ring of its own for the files of a loop that has none."""

from libc.stdint cimport int64_t, uint64_t

from aiopoll.aio cimport abi
from aiopoll.reactor.reactor cimport EVENTS_MAX
from aiopoll.reactor.request_source cimport Rider

cdef extern from "wait.h" nogil:
    long wait_ring(abi.aio_context_t ctx, long nr, abi.io_event *events, int64_t timeout_ns,
                   int *use_pgetevents)

cdef class FileRing:
    cdef object loop
    cdef Rider rider
    cdef abi.aio_context_t ctx
    cdef abi.aio_ring *ring
    cdef int event_fd
    cdef int use_pgetevents
    cdef bint scheduled
    cdef bint busy
    cdef uint64_t mm_generation
    cdef abi.iocb *batch[EVENTS_MAX]
    cdef abi.io_event[EVENTS_MAX] events

    cdef Py_ssize_t reap(self, bint wait) except -1
