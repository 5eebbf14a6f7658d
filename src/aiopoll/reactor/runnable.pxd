"""Compiled callbacks, which the loop runs when a file is ready."""

cdef class Runnable:
    cdef int run(self) except -1
    cdef int cancel(self) except -1
    cdef int yield_to_loop(self) except -1
    cdef int push(self) except -1
