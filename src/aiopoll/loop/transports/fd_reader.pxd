"""The reading side of a transport whose other side is asyncio's."""

from aiopoll.loop.core cimport LoopCore
from aiopoll.reactor.registration cimport Registration
from aiopoll.reactor.runnable cimport Runnable

cdef class FdReader(Runnable):
    cdef LoopCore loop
    cdef Registration registration  # None: not watched
    cdef object transport
    cdef object context
    cdef int fd

    cdef int start(self, object transport, int fd, object file) except -1
    cdef bint read(self) except -1
    cdef int report(self, str call, object error) except -1
