"""The ready queue of a loop."""

from aiopoll.reactor.ready_queue cimport ReadyQueue

cdef class HandleQueue(ReadyQueue):
    pass
