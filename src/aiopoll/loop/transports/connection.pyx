"""The life of a connection: whose its descriptor is, and how it ends.

States:

OPEN     bytes are read and written
CLOSING  close() was called; what waits is still sent
LOST     connection_lost() is scheduled, or runs
CLOSED   the descriptor is closed, and nothing is held

Transitions:

OPEN    -> CLOSING, LOST, CLOSED
CLOSING -> OPEN, LOST, CLOSED
LOST    -> CLOSED

The way back from CLOSING is that of a program which sets `transport._closing`.  Straight to CLOSED
goes a connection whose loop is closed, that is collected, or whose transport cannot be made.  A
connection may be closed before its protocol knows of it: its beginning (Beginning) does not depend
on the state.

Rule.  A connection without a socket object owns its number.  With one, the object is asked for it
before each system call, and a number that it does not have any more is not used: EBADF ends the
connection.  A program that asks for the socket object can close it: from then on that has the
number.

Cost.  A load and a compare for each system call.  close(2) is called without the GIL: with
SO_LINGER, which a listener hands on to what it accepts, it waits for the peer.

Failure prevented.  A program closes the socket that it got by get_extra_info("socket"), and its
number goes to a file.  The next write() would write into that file.
"""

cimport cython
from cpython.object cimport PyObject
from posix.unistd cimport close

from aiopoll.loop.transports.compiled_protocol cimport CompiledProtocol, detach, is_buffered
from aiopoll.reactor.descriptor cimport is_plain_socket, new_socket, socket_fd
from aiopoll.reactor.registration cimport Registration
from aiopoll.reactor.runnable cimport Runnable
from aiopoll.reactor.states cimport read_transitions

from asyncio.log import logger

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *object)

cdef tuple NAMES = ("OPEN", "CLOSING", "LOST", "CLOSED")
cdef set TRANSITIONS = read_transitions(__doc__, NAMES)


@cython.no_gc_clear  # the loop must know until the end that the transport is here
cdef class Connection(Runnable):
    """A connected socket, its transport and its protocol; a Stream reads and writes it."""

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            # A collector may have cleared the loop before.
            if self.loop is not None and self.loop.transports is not None:
                self.loop.transports.remove(self.fd, self.transport)
            if self.sock is None:
                with nogil:
                    close(self.fd)

    @cython.final
    cdef int enter(self, State state) except -1:
        assert (self.state, state) in TRANSITIONS, (NAMES[self.state], NAMES[state])
        self.state = state
        return 0

    cdef int set_protocol(self, object protocol) except -1:
        self.protocol = protocol
        self.buffered = is_buffered(protocol)
        self.compiled = isinstance(protocol, CompiledProtocol) and (
            (<CompiledProtocol>protocol).is_compiled())
        return 0

    @cython.final
    cdef bint has_number(self) noexcept:
        """Whether `fd` still is this connection's."""
        return self.sock is None or socket_fd(self.sock) == self.fd

    cdef bint finish_io(self) except -1:
        """Stops reading; whether nothing waits to be sent."""
        raise NotImplementedError

    cdef int stop_io(self) except -1:
        """Stops reading and writing, and drops what waits to be sent."""
        raise NotImplementedError

    cdef int drop_queue(self) except -1:
        """Drops the data that waits to be sent."""
        return 0

    cdef int report(self, str message, object error) except -1:
        self.loop.call_exception_handler({
            "message": message,
            "exception": error,
            "transport": self.transport,
            "protocol": self.protocol,
        })
        return 0

    cdef int fatal_error(self, object error, str message) except -1:
        """Ends the connection because of an error, which is reported unless it is the network's."""
        if not isinstance(error, OSError):
            self.report(message, error)
        elif self.loop._debug:
            logger.debug("%r: %s", self.transport, message, exc_info=error)
        return self.force_close(error)

    cdef int force_close(self, object error) except -1:
        """Ends the connection; what could not be sent is dropped."""
        if self.state >= LOST:
            return 0
        self.stop_io()
        return self.schedule_connection_lost(error)

    cdef int close(self) except -1:
        """Ends the connection once everything has been sent."""
        if self.state != OPEN:
            return 0
        self.enter(CLOSING)
        return self.schedule_connection_lost(None) if self.finish_io() else 0

    cdef int schedule_connection_lost(self, object error) except -1:
        self.enter(LOST)
        if self.loop._closed:
            return self.release()  # no callback will run; the caller may be being collected
        self.loop.schedule(self.transport._call_connection_lost, (error,), self.context)
        return 0

    cdef int connection_lost(self, object error) except -1:
        """Calls the protocol's connection_lost(), and releases everything."""
        try:
            if self.protocol is not None:
                self.protocol.connection_lost(error)
        finally:
            self.release()
            waiter, self.empty_waiter = self.empty_waiter, None
            if waiter is not None and not waiter.done():
                waiter.set_exception(ConnectionError("Connection is closed by peer"))
        return 0

    cdef int close_file(self, object transport) except -1:
        """Closes the socket of `transport`, this connection's, if it is not closed yet."""
        cdef int fd = self.fd
        if fd < 0:
            return 0
        self.loop.transports.remove(fd, transport)
        self.fd = -1
        if self.sock is not None:
            self.sock.close()
        else:
            with nogil:
                close(fd)
        return 0

    cdef int release(self) except -1:
        """Closes the socket, and lets go of all that the connection has held."""
        transport, self.transport = self.transport, None
        server, self.server = self.server, None
        if self.state != CLOSED:
            self.enter(CLOSED)
        self.set_protocol(None)
        self.drop_queue()
        try:
            self.close_file(transport)
        finally:
            self.sock = None
            if server is not None:
                detach(server, transport)
        return 0

    cdef Registration registration_of(self):
        """The registration of this connection; None if it waits for nothing."""
        raise NotImplementedError

    cdef object python_socket(self):
        """The socket object, made if there is none yet; None once it is closed.

        A program that has it can close it: the number is not the connection's own any more.
        """
        cdef Registration registration
        if self.sock is None and self.fd >= 0:
            self.sock = new_socket(self.fd)
            self.sock.setblocking(False)
            registration = self.registration_of()
            if registration is not None:
                try:
                    self.loop.reactor.disown(registration, self.sock)
                except OSError:
                    pass  # no room in the epoll set: AIO poll goes on, and keeps the file open
        return self.sock

    cdef bint adopt(self) except -1:
        """Takes the number from a socket object that no other code has; whether it could."""
        cdef Registration registration = self.registration_of()
        if self.sock is None or not is_plain_socket(self.sock) or not self.has_number() or (
                Py_REFCNT(<PyObject *>self.sock)
                > 1 + (registration is not None and registration.file is self.sock)):
            return False
        self.sock.detach()
        self.sock = None
        if registration is not None:
            self.loop.reactor.own(registration)
        return True
