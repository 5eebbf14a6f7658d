"""Which readers are dispatched again before they are armed again.

A reader that finds something again has saved a request; one that does not has cost a system call
for nothing.  Where most do not, none is tried for a while: c/speculation.h.
"""

cimport cython

from aiopoll.reactor.registration cimport (
    SPECULATING, SPECULATIVELY, Registration, needs_read,
)

cdef extern from "speculation.h" nogil:
    bint speculation_due(Worth *worth)
    void speculation_tried(Worth *worth, bint hit)


@cython.final
cdef class Speculation:
    """The readers of one reactor."""

    def __cinit__(self):
        self.next = []

    cdef bint read_done(self, Registration registration, bint hit) except -1:
        """Takes what a reader has found; whether its file is to be armed now."""
        if registration.reading == SPECULATING:
            registration.reading = SPECULATIVELY
            speculation_tried(&self.worth, hit)
            self.tried += 1
            self.found += hit
        if not needs_read(registration):
            return False
        if speculation_due(&self.worth) and hit:
            self.next.append(registration)
            return False
        return True

    cdef list take(self):
        """The readers to dispatch in this iteration."""
        cdef list registrations = self.next
        self.next = []
        return registrations
