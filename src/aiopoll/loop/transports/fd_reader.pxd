"""The reading side of a transport whose other side is asyncio's."""

from aiopoll.loop.core cimport LoopCore
from aiopoll.reactor.reactor cimport Watch
from aiopoll.reactor.runnable cimport Runnable

cdef class Reader(Runnable):
    cdef LoopCore loop
    cdef Watch watch  # None: not watched
    cdef object transport
    cdef object context
    cdef int fd

    cdef int start(self, object transport, int fd, object file) except -1
    cdef bint read(self) except -1
    cdef int report(self, str call, object error) except -1
