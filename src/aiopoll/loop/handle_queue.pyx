"""The ready queue of a loop: it holds handles, which the garbage collector may not see."""

cimport cython

from aiopoll.aio.free_threading cimport NO_THREAD
from aiopoll.loop.handles cimport gc_track
from aiopoll.reactor.ready_queue cimport ReadyQueue


@cython.final
@cython.no_gc_clear
cdef class HandleQueue(ReadyQueue):
    """A ReadyQueue whose handles are seen by the garbage collector once they have left it."""

    def __cinit__(self, items=()):
        self.owner = NO_THREAD  # until a thread runs the loop

    cdef int expose(self, object item) except -1:
        return gc_track(item)
