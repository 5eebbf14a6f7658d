"""The reactor on epoll."""

from aiopoll.reactor.reactor cimport Reactor

cdef class EpollReactor(Reactor):
    pass
