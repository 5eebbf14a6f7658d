"""A file that the loop waits for: which callbacks wait, and where the kernel has it.

States:

DETACHED   neither the ring nor the epoll set has it
RING       requests of its own on the ring
RING_END   likewise, and the epoll set reports its end, edge-triggered
LEVEL      in the epoll set, level-triggered
ONE_SHOT   in the epoll set, which reports it once (EPOLLONESHOT)
SPENT      in the epoll set, which has reported it, and is quiet until it is armed anew
FORGOTTEN  taken off: what may still be reported of it is dropped

Transitions:

DETACHED -> RING, LEVEL, ONE_SHOT, FORGOTTEN
RING     -> RING_END, LEVEL, FORGOTTEN
RING_END -> RING, LEVEL, FORGOTTEN
LEVEL    -> RING, LEVEL, FORGOTTEN
ONE_SHOT -> RING, LEVEL, SPENT, FORGOTTEN
SPENT    -> RING, LEVEL, FORGOTTEN

A file goes from the ring to the epoll set where a request of it is refused, finds no slot, or has
to make room for the reactor's own; and where others can reach its number from now on.  It comes
back when the loop alone has the number, or by a new registration.

Whose number it is (`owned`) and whether its reader is tried unarmed (`reading`) do not depend
on the state.
"""

cimport cython

from aiopoll.reactor.states cimport read_transitions


cdef tuple NAMES = ("DETACHED", "RING", "RING_END", "LEVEL", "ONE_SHOT", "SPENT", "FORGOTTEN")


cdef set TRANSITIONS = read_transitions(__doc__, NAMES)


@cython.final
@cython.freelist(64)
cdef class Registration:
    """One descriptor, up to two callbacks, and the requests that poll it."""

    def __cinit__(self, int fd):
        self.fd = fd
        self.requests[0] = self.requests[1] = NO_REQUEST

    def __repr__(self):
        return f"<Registration fd={self.fd} {NAMES[self.state]}>"

    cdef object callback(self, int direction):
        return self.reader if direction == READ else self.writer

    cdef void set_callback(self, int direction, object callback) noexcept:
        if direction == READ:
            self.reader = callback
        else:
            self.writer = callback

    cdef int enter(self, State state) except -1:
        """Changes the state; the reactor counts, see Reactor.enter()."""
        assert (self.state, state) in TRANSITIONS, f"{self!r} cannot become {NAMES[state]}"
        self.state = state
        return 0
