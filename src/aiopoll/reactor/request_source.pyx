"""Requests of another kind than polls, on a reactor's ring: what it asks of their source."""

from aiopoll.aio cimport abi


cdef class RequestSource:
    """Has requests, reads and writes of files, that leave and complete on a reactor's ring.

    waiting: how many requests are to be submitted; in_flight: how many have an event to come.
    The aio_data of each has SOURCE_TAG.  No method raises for the sake of one request: its future
    gets the exception.
    """

    cdef Py_ssize_t fill_batch(self, abi.iocb **batch, Py_ssize_t room) except -1:
        """Puts up to `room` requests into the batch, and returns how many."""
        raise NotImplementedError

    cdef int on_submit_error(self, abi.iocb **batch, Py_ssize_t nr, long error) except -1:
        """Takes back requests that io_submit did not take; EAGAIN: for want of a slot."""
        raise NotImplementedError

    cdef int complete(self, abi.io_event *event) except -1:
        """Takes the event of a request."""
        raise NotImplementedError
