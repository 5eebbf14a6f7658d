"""The record of a request in flight, and the objects around it, for the modules above."""

from libc.stdint cimport int64_t, uint32_t
from posix.uio cimport iovec

from aiopoll.aio cimport abi

cdef class Iocb:
    cdef readonly object data
    cdef abi.iocb prototype
    cdef object buffer
    cdef Py_ssize_t last_index

cdef class IoEvent:
    cdef readonly object data
    cdef readonly Iocb obj
    cdef readonly int64_t res
    cdef readonly int64_t res2

cdef class Completion:
    cdef abi.iocb iocb
    cdef Iocb request
    cdef object data
    cdef uint32_t generation
    cdef Py_ssize_t index
    cdef Py_ssize_t next_free
    cdef bint cancelled
    cdef Py_buffer single_view
    cdef Py_buffer *views
    cdef iovec *vector
    cdef Py_ssize_t nr_views

    cdef int start(self, Iocb request) except -1
    cdef int pin(self, object buffer) except -1
    cdef int pin_vector(self, tuple buffers) except -1
    cdef void finish(self) noexcept

cdef inline bint in_use(Completion completion) noexcept:
    return completion.request is not None

cdef int64_t masked_poll_result(Completion completion, int64_t res) noexcept
cdef object checked_int(object value, str name, object low, object high)
