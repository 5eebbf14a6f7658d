"""The transports of an event loop by descriptor."""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

cdef class TransportTable:
    cdef PyObject **by_fd
    cdef Py_ssize_t room
    cdef uint64_t added  # connections that were entered, in all
    cdef readonly object others

    cdef int add(self, int fd, object transport) except -1
    cdef int grow(self, Py_ssize_t least) except -1
    cdef void remove(self, int fd, object transport) noexcept
    cdef object find(self, int fd)
