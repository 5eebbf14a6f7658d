"""The owner of a descriptor's number, which is checked before each system call on it."""

from aiopoll.reactor.registration cimport Registration

cdef int socket_fd(object sock) noexcept
cdef bint is_plain_socket(object sock) noexcept
cdef object new_socket(int fd, object family=*, object kind=*, object protocol=*)
cdef bint has_number(object file, int fd) except -1
cdef object owner_of(object file)
cdef bint is_of(Registration registration, object owner) except -1
