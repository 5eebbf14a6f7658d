"""add_reader() and add_writer()."""

from aiopoll.loop.core cimport LoopCore

cdef class FileWatcher(LoopCore):
    cdef object watch(self, object file, int direction, callback, tuple args, object context)
    cdef bint unwatch(self, object file, int direction) except -1
    cdef int descriptor(self, object file) except? -1
