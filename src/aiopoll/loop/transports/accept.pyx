"""Accepting connections for a server.

Facts.  A socket that accept4(2) makes inherits TCP_NODELAY from the listener.  EMFILE, ENFILE,
ENOBUFS and ENOMEM leave the connection in the queue, so that the listener stays ready.  A queue
holds one connection more than its backlog.  ECONNABORTED takes one from the queue.

Rule.  A whole queue is accepted each time that the listener is ready, each connection without a
task, in a copy of the context that the server was made in (asyncio from 3.15 on) or started in.
What was aborted is passed over.  For want of descriptors or memory the listener is not watched for
a second, and the exception handler is called; all other errors are the connection's own and go to
the exception handler too.  A listener can be reached through its socket object (Server.sockets, or
sock= of its owner): it is in the epoll set, which lets it end with its last descriptor, and its
object is asked for the number before each accept.  One with an accept() of its own is asyncio's to
serve, and from when socket.socket has been changed, every one.

Cost.  One accept4 more than there are connections, to see that there is none left.
"""

cimport cython
from cpython.contextvars cimport PyContext_Copy, PyContext_CopyCurrent
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
from libc.errno cimport (
    EAGAIN, EBADF, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno,
)
from posix.unistd cimport close

from aiopoll.loop.core cimport LoopCore
from aiopoll.loop.transports.sockaddr cimport address, address_clear, socklen_t
from aiopoll.loop.transports.socket_transport cimport accepted_transport
from aiopoll.reactor.descriptor cimport has_number, is_plain_socket
from aiopoll.reactor.registration cimport GIVEN, READ, Registration
from aiopoll.reactor.runnable cimport Runnable

import functools
import os
import socket as socket_module

from asyncio import constants, trsock
from asyncio.log import logger

cdef extern from "<sys/socket.h>" nogil:
    enum:
        SOCK_CLOEXEC
        SOCK_NONBLOCK

    int accept4(int fd, void *name, socklen_t *length, int flags)

cdef extern from "socket_options.h" nogil:
    void socket_set_nodelay(int fd)


cdef object Socket = socket_module.socket


def accepts_plainly(sock):
    """Whether a listener's accept() does the same as accept4(2), with the same result."""
    return is_plain_socket(sock) and socket_module.socket is Socket


@cython.final
cdef class Acceptor(Runnable):
    """The callback of a listening socket."""

    cdef LoopCore loop
    cdef object sock
    cdef object protocol_factory
    cdef object server
    cdef object context  # of its own calls
    cdef object server_context  # what connections get a copy of
    cdef Registration registration
    cdef int fd
    cdef int backlog
    cdef Py_ssize_t queue_size
    cdef bint cancelled
    cdef bint context_given  # by asyncio, from 3.15 on

    def __repr__(self):
        return f"<accept {self.sock!r}>"

    cdef int cancel(self) except -1:
        self.cancelled = True
        return 0

    cdef int run(self) except -1:
        cdef address peer
        cdef Py_ssize_t count
        cdef int fd
        for count in range(self.queue_size):
            if self.cancelled:
                return 0
            if not has_number(self.sock, self.fd):
                self.stop()
                return self.fail(EBADF)  # its owner has closed it
            if not accepts_plainly(self.sock):
                return self.leave_to_asyncio()
            address_clear(&peer)
            fd = accept4(self.fd, &peer.sa, &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                if errno == ECONNABORTED:
                    continue
                if errno == EAGAIN or errno == EINTR:
                    return 0
                return self.fail(errno)
            self.connect(fd, &peer)
        return 0

    cdef int connect(self, int fd, const address *peer) except -1:
        context = PyContext_Copy(self.server_context)
        PyContext_Enter(context)
        try:
            try:
                protocol = self.protocol_factory()
            except BaseException:
                close(fd)
                raise
            transport = accepted_transport(self.loop, fd, peer, protocol, self.server, context)
            if self.loop._debug:
                logger.debug("%r got a new connection: %r", self.server, transport)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.loop.call_exception_handler({
                "message": "Error on transport creation for incoming connection",
                "exception": error,
            })
        finally:
            PyContext_Exit(context)
        return 0

    cdef int fail(self, int code) except -1:
        error = OSError(code, os.strerror(code))
        cdef bint starved = code in (EMFILE, ENFILE, ENOBUFS, ENOMEM)
        PyContext_Copy(self.context).run(self.loop.call_exception_handler, {
            "message": f"socket.accept() {'out of system resource' if starved else 'failed'}",
            "exception": error,
            "socket": trsock.TransportSocket(self.sock),
        })
        if starved:
            self.stop()
            self.loop.call_later(constants.ACCEPT_RETRY_DELAY, self.accept_again)
        return 0

    cdef int start(self) except -1:
        self.registration = self.loop.reactor.register(self.fd, READ, self, GIVEN, self.sock)
        return 0

    cdef int stop(self) except -1:
        registration, self.registration = self.registration, None
        if registration is not None and registration.callback(READ) is self:
            self.loop.reactor.unregister(registration, READ)
        return 0

    cdef int leave_to_asyncio(self) except -1:
        """Has asyncio's own code accept, from the next iteration on."""
        self.stop()
        self.cancelled = True
        PyContext_Copy(self.context).run(
            self.loop._add_reader, self.sock, asyncios_accept(
                self.loop, self.server_context if self.context_given else None),
            self.protocol_factory, self.sock, None, self.server, self.backlog)
        return 0

    def accept_again(self):
        """Accepts again, unless the server has stopped meanwhile."""
        if has_number(self.sock, self.fd):
            self.start()


def asyncios_accept(loop, context):
    """asyncio's own callback of a listening socket, for connections in copies of `context`."""
    accept = loop._accept_connection
    return accept if context is None else functools.partial(accept, context=context)


def start_accepting(LoopCore loop, sock, protocol_factory, server, int backlog, context=None):
    """Accepts connections on a listening socket until its reader is removed.

    context: what connections get a copy of; None for the current one.
    """
    cdef Acceptor acceptor = Acceptor.__new__(Acceptor)
    acceptor.loop = loop
    acceptor.sock = sock
    acceptor.protocol_factory = protocol_factory
    acceptor.server = server
    acceptor.context = PyContext_CopyCurrent()
    acceptor.server_context = acceptor.context if context is None else context
    acceptor.context_given = context is not None
    acceptor.fd = sock.fileno()
    acceptor.backlog = backlog
    acceptor.queue_size = <Py_ssize_t>max(backlog, 0) + 1
    socket_set_nodelay(acceptor.fd)
    acceptor.start()
