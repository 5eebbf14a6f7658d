"""The page by which a process knows that it is the child of a fork; see c/fork_guard.h."""

cdef fork_guard the_guard

fork_guard_map(&the_guard)
fork_guard_use(&the_guard)


cdef fork_guard *process_guard() noexcept:
    """The argument of fork_guard_use() in each module that is imported."""
    return &the_guard
