"""The compiled half of a file."""

from libc.stdint cimport int64_t

from aiopoll.files.routes cimport FileRoutes

cdef class FileCore(FileRoutes):
    cdef int look_at(self, object loop, int fd, bint closefd) except -1
    cdef int check_open(self, bint reading, bint writing) except -1
    cdef object call(self, object function, bint exclusive)
    cdef object read_request(self, object buffers, int64_t offset, bint several)
    cdef object write_request(self, object data, int64_t offset, bint dsync, bint append)
    cdef object sync(self, int opcode)
