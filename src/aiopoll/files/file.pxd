"""A file of an event loop."""

from libc.stdint cimport int64_t, uint64_t

from aiopoll.files.open_file cimport OpenFile
from aiopoll.files.scheduler cimport FileQueue

cdef class File:
    cdef FileQueue queue
    cdef OpenFile file
    cdef readonly uint64_t writes  # of any thread
    cdef object __weakref__

    cdef int check_open(self, bint reading, bint writing) except -1
    cdef object read_request(self, object buffers, int64_t size, int64_t offset, bint several)
    cdef object write_request(self, object data, int64_t offset, bint dsync, bint append)
    cdef object sync(self, int opcode)
