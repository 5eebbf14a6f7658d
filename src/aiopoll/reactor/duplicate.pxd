"""Descriptors of our own for files that the program owns."""

cdef int duplicate(int fd) except -1
cdef bint is_same_file(int fd, int other) noexcept
cdef int release(int fd) except -1
