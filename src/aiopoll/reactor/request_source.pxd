"""Requests of another kind than polls, on a reactor's ring."""

from aiopoll.aio cimport abi

cdef enum:
    # Marks the aio_data of a source's request: no poll request has so high an index.
    SOURCE_TAG = 0x80000000

cdef class RequestSource:
    cdef Py_ssize_t waiting
    cdef Py_ssize_t in_flight

    cdef Py_ssize_t fill_batch(self, abi.iocb **batch, Py_ssize_t room) except -1
    cdef int on_submit_error(self, abi.iocb **batch, Py_ssize_t nr, long error) except -1
    cdef int complete(self, abi.io_event *event) except -1
