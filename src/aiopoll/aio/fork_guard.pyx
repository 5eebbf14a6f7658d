"""The page that tells a process from the children of its forks; see c/fork_guard.h."""

cdef fork_guard the_guard

fork_guard_map(&the_guard)
fork_guard_use(&the_guard)


cdef fork_guard *process_guard() noexcept:
    """What a module gives to fork_guard_use() when it is imported."""
    return &the_guard
