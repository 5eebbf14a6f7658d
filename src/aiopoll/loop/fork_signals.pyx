"""Signals in the child of a fork: they must not write to the parent's loop.

Facts.  CPython's C handler writes the number of each signal to the wake-up descriptor; the child
has a copy of both.  asyncio unsets it in the child from Python 3.12 on, after signals could have
come.  signal.pthread_sigmask() runs Python's handlers, whose exceptions the hooks of a fork
swallow.

Rule.  The pipes of our loops are marked.  While there are any, a fork blocks the signals of its
thread until the child has unset one of them; a descriptor of other code stays.

Cost.  Two system calls for each fork.  A C library that forks without Python's hooks, and does not
exec at once, is not covered.
"""

import os
import signal

cdef extern from *:
    """
    #include <signal.h>

    static __thread sigset_t mask_before;
    static __thread int signals_blocked;

    static void block_signals(void)
    {
        sigset_t all;
        sigfillset(&all);
        signals_blocked = pthread_sigmask(SIG_SETMASK, &all, &mask_before) == 0;
    }

    static void restore_signals(void)
    {
        if (signals_blocked)
            pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
        signals_blocked = 0;
    }
    """
    void block_signals() nogil
    void restore_signals() nogil

cdef set pipes = set()
cdef object set_wakeup_fd = signal.set_wakeup_fd


def mark_pipe(int fd):
    """Keeps the signals of forked children from a loop's pipe, should it be the wake-up descriptor."""
    pipes.add(fd)


def unmark_pipe(int fd):
    """The pipe is about to be closed."""
    pipes.discard(fd)


def before_fork():
    if pipes:
        block_signals()


def after_fork():
    restore_signals()


def after_fork_in_child():
    try:
        if pipes:
            current = set_wakeup_fd(-1)
            if current not in pipes and current != -1:
                set_wakeup_fd(current)
            pipes.clear()
    finally:
        restore_signals()


os.register_at_fork(before=before_fork, after_in_parent=after_fork,
                    after_in_child=after_fork_in_child)
