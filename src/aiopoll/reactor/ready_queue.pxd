"""The queue of callbacks that the next iteration runs."""

cdef class ReadyQueue:
    cdef list slots
    cdef Py_ssize_t head
    cdef Py_ssize_t mask  # len(slots) - 1, a power of two less one
    cdef Py_ssize_t count

    cdef int push(self, object item) except -1
    cdef object pop(self)
    cdef int grow(self) except -1
    cdef int expose(self, object item) except -1
