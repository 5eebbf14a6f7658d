"""The reactor on an AIO ring: what is polled where."""

from libc.stdint cimport int64_t

from aiopoll.reactor.registration cimport Registration
from aiopoll.reactor.ring_reactor cimport Delivery, RingReactor
from aiopoll.reactor.speculation cimport Speculation

cdef class AioReactor(RingReactor):
    cdef list deferred
    cdef int64_t retry_at_ns
    cdef Speculation speculation
    cdef Py_ssize_t nr_done  # of nr_dispatched, the requests of files

    cdef int defer(self, Registration registration, object error) except -1
    cdef int retry_deferred(self) except -1
    cdef bint evict(self) except -1
    cdef int complete_own(self, int fd, Delivery delivery) except -1
    cdef int poll_epoll_fairly(self) except -1
    cdef int speculate(self) except -1
