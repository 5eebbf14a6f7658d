"""The life of a connection."""

from libc.stdint cimport uint8_t

from aiopoll.loop.core cimport LoopCore
from aiopoll.loop.transports.sockaddr cimport ip_address
from aiopoll.reactor.registration cimport Registration
from aiopoll.reactor.runnable cimport Runnable

cdef enum Beginning:
    NEW = 0  # the protocol does not know of the connection
    INTRODUCED = 1  # connection_made() runs, or has ended the run of the loop
    STARTED = 2  # data is read when the transport is not paused

cdef enum State:
    OPEN
    CLOSING
    LOST
    CLOSED

cdef class Connection(Runnable):
    cdef LoopCore loop
    cdef object transport  # None once CLOSED
    cdef object protocol
    cdef object sock  # the socket object; None while no other code can reach the number
    cdef object server
    cdef object context
    cdef object empty_waiter
    cdef int fd
    cdef uint8_t state  # a State; each of these a byte: there may be many connections
    cdef uint8_t started  # a Beginning
    cdef uint8_t buffered  # the protocol is a BufferedProtocol
    cdef uint8_t compiled  # the protocol is a CompiledProtocol that is
    cdef uint8_t writes_lost  # after the end, for asyncio's warning
    cdef ip_address here
    cdef ip_address peer

    cdef int enter(self, State state) except -1
    cdef int set_protocol(self, object protocol) except -1
    cdef bint has_number(self) noexcept
    cdef bint finish_io(self) except -1
    cdef int stop_io(self) except -1
    cdef int drop_queue(self) except -1
    cdef Registration registration_of(self)
    cdef int report(self, str message, object error) except -1
    cdef int fatal_error(self, object error, str message) except -1
    cdef int force_close(self, object error) except -1
    cdef int close(self) except -1
    cdef int schedule_connection_lost(self, object error) except -1
    cdef int connection_lost(self, object error) except -1
    cdef int close_file(self, object transport) except -1
    cdef int release(self) except -1
    cdef object python_socket(self)
    cdef bint adopt(self) except -1
