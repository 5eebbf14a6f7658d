"""Whose number a descriptor is: looked at before each system call on it."""

cdef int socket_fd(object sock) noexcept
cdef bint is_plain_socket(object sock) noexcept
cdef bint has_number(object file, int fd) except -1
