"""The Context, for the modules above."""

from libc.stdint cimport uint64_t

from aiopoll.aio cimport abi
from aiopoll.aio.iocb cimport Completion, Iocb
from aiopoll.aio.ring cimport Ring

cdef class Context:
    cdef object __weakref__
    cdef Ring ring
    cdef readonly unsigned int nr_events  # 0 until io_setup has succeeded
    cdef unsigned int ring_nr
    cdef unsigned long owner
    cdef bint busy
    cdef list completions
    cdef Py_ssize_t first_free
    cdef Py_ssize_t in_flight
    cdef abi.io_event *events
    cdef Py_ssize_t events_room

    cdef int enter(self) except -1
    cdef Completion take_completion(self)
    cdef void release(self, Completion completion) noexcept
    cdef Py_ssize_t nr_lost(self) except? -1
    cdef Completion find(self, Iocb request)
    cdef int reserve_events(self, Py_ssize_t nr) except -1
    cdef list collect(self, Py_ssize_t count)
    cdef list take(self, Py_ssize_t least, Py_ssize_t most, object timeout_ns,
                   const uint64_t *sigmask, bint restart)
    cdef long wait(self, long min_nr, long nr, object timeout_ns, const uint64_t *sigmask,
                   bint restart) except? -1
