"""The sock_* methods of the event loop, and what waits for them."""

from libc.stdint cimport uint8_t

from aiopoll.loop.core cimport LoopCore
from aiopoll.loop.file_watcher cimport FileWatcher
from aiopoll.reactor.registration cimport Registration
from aiopoll.reactor.runnable cimport Runnable

cdef class Wait(Runnable):
    cdef LoopCore loop
    cdef object sock
    cdef object future
    cdef Registration registration
    cdef int fd
    cdef int direction
    cdef bint stopped

    cdef object attempt(self)
    cdef int stop(self) except -1

cdef class SockMethods(FileWatcher):
    cdef uint8_t recv_pages  # what recv_bytes() keeps, of all its sockets

    cdef object begin(self, Wait wait, object sock, int direction)
