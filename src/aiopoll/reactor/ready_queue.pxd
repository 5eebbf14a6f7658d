"""The queue of callbacks that the next iteration runs."""

from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport int64_t

from aiopoll.aio.free_threading cimport FREE_THREADED, flag_is_up

cdef class ReadyQueue:
    cdef list slots
    cdef Py_ssize_t head
    cdef Py_ssize_t mask  # len(slots) - 1, a power of two less one
    cdef Py_ssize_t count

    cdef int64_t *times  # by slot: when its item was pushed; NULL while that is not measured
    cdef int64_t now_ns  # what to take for it; 0: the clock's time
    cdef int64_t since_ns  # when the item that was popped last was pushed

    cdef unsigned long owner  # the thread that may use it; 0: one at a time
    cdef list posted  # by other threads
    cdef int has_posted  # a flag

    cdef int push(self, object item) except -1
    cdef int take_posted(self) except -1
    cdef object pop(self)
    cdef int measure(self, bint on) except -1
    cdef int grow(self) except -1
    cdef int restart(self) except -1
    cdef int expose(self, object item) except -1

cdef inline Py_ssize_t nr_waiting(ReadyQueue queue) except -1:
    """How many items wait, those that other threads have put there too."""
    if FREE_THREADED and flag_is_up(&queue.has_posted):
        queue.take_posted()
    if PyList_GET_SIZE(queue.slots) <= queue.mask:
        queue.restart()
    return queue.count
