"""Whether this process made an object, or a fork brought it along."""

from libc.stdint cimport uint64_t

cdef extern from "fork_guard.h" nogil:
    struct fork_guard:
        pass

    void fork_guard_use(fork_guard *guard)
    void fork_guard_map(fork_guard *guard)
    uint64_t fork_guard_now()
    bint is_forked_child(uint64_t made)

cdef fork_guard *process_guard() noexcept
