"""Data that a connection has written and the kernel has not taken yet."""

cdef class WriteQueue:
    cdef object pieces  # None, bytes, or a list of several
    cdef Py_ssize_t sent  # bytes of the first piece that the kernel has taken

    cdef int append(self, bytes data) except -1
    cdef ssize_t send(self, int fd, Py_ssize_t size) noexcept
    cdef int drop(self, Py_ssize_t taken, Py_ssize_t left) except -1
