"""Requests of another kind than polls, on a reactor's ring: what it asks of whoever has them."""

from aiopoll.aio cimport abi


cdef class Rider:
    """Who has requests of another kind, reads and writes of files, travel on a reactor's ring.

    waiting: how many requests want to be submitted; in_flight: how many have an event to come.
    The aio_data of each carries RIDER_TAG.  A rider's methods never raise for one request's
    sake: its owner is told.
    """

    cdef Py_ssize_t board(self, abi.iocb **batch, Py_ssize_t room) except -1:
        """Puts up to `room` requests into the batch, and answers how many."""
        raise NotImplementedError

    cdef int refuse(self, abi.iocb **batch, Py_ssize_t nr, long error) except -1:
        """Takes back requests that io_submit did not take; EAGAIN: for want of a slot."""
        raise NotImplementedError

    cdef int complete(self, abi.io_event *event) except -1:
        """Takes the event of a request."""
        raise NotImplementedError
