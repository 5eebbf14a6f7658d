"""The reading side of a transport whose other side is asyncio's."""

from aiopoll._core.handles cimport Runnable
from aiopoll._core.loop cimport LoopCore
from aiopoll._core.reactor cimport Watch

cdef class Reader(Runnable):
    cdef LoopCore loop
    cdef Watch watch  # None: not watched
    cdef object transport
    cdef object context
    cdef int fd

    cdef int start(self, object transport, int fd, object file) except -1
    cdef bint read(self) except -1
    cdef int report(self, str call, object error) except -1
