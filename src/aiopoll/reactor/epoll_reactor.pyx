"""The reactor on epoll: all files are in the epoll set, which it sleeps in."""

cimport cython
from libc.stdint cimport int64_t

from aiopoll.reactor.reactor cimport Reactor
from aiopoll.reactor.registration cimport LEVEL, Registration


@cython.final
cdef class EpollReactor(Reactor):
    """The backend for machines without AIO poll."""

    def __init__(self, ready):
        self.backend = "epoll"
        self.wakes_by_epoll = True
        self.add_wakeup(self.epoll_fd)

    cdef int arm(self, Registration registration, int direction) except -1:
        return self.move_to_epoll(registration, LEVEL)

    cdef int disarm(self, Registration registration, int direction) except -1:
        return 0

    cdef int poll(self, int64_t timeout_ns) except -1:
        self.begin()
        self.sleeps += timeout_ns != 0
        try:
            self.poll_epoll(timeout_ns)
        finally:
            self.after_sleep()
            self.polling = False
        return 0
