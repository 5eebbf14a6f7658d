"""A file that the loop waits for."""

from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    READ = 0
    WRITE = 1
    NO_REQUEST = 0xFFFFFFFF  # POLL_POOL_NONE

cdef enum Flags:
    GIVEN = 0  # the program owns the number: the epoll set, which does not keep the file open
    OWNED = 1  # the loop alone has the number: it may be polled by AIO
    REARMS_ITSELF = 2  # the reader calls read_done() each time that it has been dispatched
    ONCE = 4  # the callback takes itself off when it has been dispatched, or calls rearm()

cdef enum State:
    DETACHED
    RING
    RING_END
    LEVEL
    ONE_SHOT
    SPENT
    FORGOTTEN

cdef enum Reading:  # how its reader may be dispatched
    AFTER_EVENT
    SPECULATIVELY  # also unarmed: it calls read_done()
    SPECULATING  # it has been dispatched without an event

cdef class Registration:
    cdef int fd
    cdef uint8_t state  # a State
    cdef uint8_t reading  # a Reading
    cdef uint8_t owned  # OWNED
    cdef uint8_t in_set  # the reactor has moved it to the epoll set, and moves it back
    cdef uint8_t reported  # the program knows that it cannot be polled at present
    cdef uint32_t generation  # of its entry in the epoll set
    cdef uint32_t read_iteration  # in which it was dispatched for reading, in the state RING_END
    cdef object file  # whose number it is; None where it was given as a number
    cdef object reader
    cdef object writer
    cdef uint32_t[2] requests

    cdef object callback(self, int direction)
    cdef void set_callback(self, int direction, object callback) noexcept
    cdef int enter(self, State state) except -1

cdef inline bint in_epoll(Registration registration) noexcept:
    """Whether the epoll set reports all that the file is waited for."""
    return LEVEL <= registration.state <= SPENT

cdef inline bint has_entry(Registration registration) noexcept:
    """Whether the epoll set has the file."""
    return RING_END <= registration.state <= SPENT

cdef inline bint needs_read(Registration registration) noexcept:
    """Whether a reader waits for which nothing is armed."""
    return (registration.reader is not None and registration.requests[READ] == NO_REQUEST
            and not in_epoll(registration))
