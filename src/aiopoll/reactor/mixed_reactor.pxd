"""The reactor that waits in the epoll set, or looks at its ring."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from aiopoll.reactor.aio_reactor cimport AioReactor
from aiopoll.reactor.registration cimport Registration

cdef extern from "trial.h" nogil:
    struct trial:
        bint looking

    void trial_init(trial *trial)
    bint trial_round(trial *trial, int64_t events, bint worth)

cdef class MixedReactor(AioReactor):
    cdef trial trial
    cdef bint uses_set  # its files are in the epoll set, and it sleeps there
    cdef bint forced  # where it waits does not depend on what pays
    cdef bint in_turn  # it changes after each iteration
    cdef uint32_t in_vain  # how often the set was asked for nothing, one after another
    cdef Py_ssize_t next_parked  # the descriptor where move_parked() goes on
    cdef uint64_t missed  # readers that were tried in vain, up to the last iteration
    cdef uint64_t moves

    cdef int use_set(self) except -1
    cdef int use_ring(self) except -1
    cdef bint poll_set(self, int64_t timeout_ns) except -1
    cdef int64_t count_events(self) noexcept
    cdef bint is_ring_quiet(self) noexcept
    cdef int move_in(self, Registration registration) except -1
    cdef int move_parked(self) except -1
