"""Data that a stream has received, and that was not read yet."""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE


@cython.final
cdef class StreamBuffer:
    # The data: in `chunk` from `start`, or in `gathered`; never in both.
    cdef bytes chunk
    cdef Py_ssize_t start
    cdef bytearray gathered
    cdef bint shown  # other code may hold `gathered`

    cdef inline Py_ssize_t size(self) noexcept:
        if self.chunk is not None:
            return PyBytes_GET_SIZE(self.chunk) - self.start
        return 0 if self.gathered is None else PyByteArray_GET_SIZE(self.gathered)

    cdef inline const char *data(self) noexcept:
        """Where the data begins; only if there is some."""
        if self.chunk is not None:
            return PyBytes_AS_STRING(self.chunk) + self.start
        return PyByteArray_AS_STRING(self.gathered)

    cdef int add(self, object data) except -1
    cdef bytes take(self, Py_ssize_t count)
    cdef int drop(self, Py_ssize_t count) except -1
    cdef int gather(self) except -1
    cdef bytearray expose(self)
    cdef int replace(self, bytearray gathered) except -1
    cdef Py_ssize_t find(self, object separators, Py_ssize_t at, Py_ssize_t *start) except -2
