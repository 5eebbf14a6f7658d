"""The reactor on epoll: all files are in the epoll set, which it sleeps in."""

cimport cython
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint64_t

from aiopoll.reactor.reactor cimport (
    EPOLL_CTL_ADD, POLL_IN, Reactor, epoll_ctl, epoll_event, os_error,
)
from aiopoll.reactor.registration cimport LEVEL, Registration


@cython.final
cdef class EpollReactor(Reactor):
    """The backend for machines without AIO poll."""

    def __init__(self, ready):
        cdef epoll_event event
        self.backend = "epoll"
        self.wakes_by_epoll = True
        event.events = POLL_IN
        event.data.u64 = <uint64_t>self.wakeup.fd
        if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, self.wakeup.fd, &event) != 0:
            raise os_error(errno, "epoll_ctl")

    cdef int arm(self, Registration registration, int direction) except -1:
        return self.move_to_epoll(registration, LEVEL)

    cdef int disarm(self, Registration registration, int direction) except -1:
        return 0

    cdef int poll(self, int64_t timeout_ns) except -1:
        self.check_process()
        if self.polling:
            raise RuntimeError("the reactor is in use")
        self.iterations += 1
        if timeout_ns != 0:
            self.sleeps += 1
        self.polling = True
        try:
            self.poll_epoll(timeout_ns)
        finally:
            self.polling = False
        return 0
