"""An own ring for the files of a loop that has none."""

from aiopoll.aio cimport abi
from aiopoll.aio.ring cimport Ring
from aiopoll.reactor.reactor cimport EVENTS_MAX
from aiopoll.reactor.request_source cimport RequestSource

cdef class FileRing:
    cdef object loop
    cdef RequestSource source
    cdef Ring ring
    cdef int event_fd
    cdef bint scheduled
    cdef bint busy
    cdef abi.iocb *batch[EVENTS_MAX]
    cdef abi.io_event[EVENTS_MAX] events

    cdef int submit_later(self) except -1
    cdef int submit_waiting(self) except -1
    cdef int drain(self) except -1
    cdef int close(self) except -1
    cdef int free(self) except -1
    cdef int reap(self, bint wait) except -1
