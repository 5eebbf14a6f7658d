"""The signal that asks for a dump, as Python code sees it; c/dump_request.h has the rule."""

cdef extern from "dump_request.h" nogil:
    ctypedef struct sem_t:
        pass

    int dump_request_begin(int stacks_signal)
    int dump_request_on(int number)
    void dump_request_wait(sem_t *semaphore)
    int sem_post(sem_t *semaphore)
    sem_t dump_request_taken "dump_request.taken"
    sem_t dump_request_done "dump_request.done"


def begin(int stacks_signal):
    """Begins to take requests in this process; returns 0 or an errno.

    stacks_signal: for which faulthandler was registered; 0 for none.
    """
    return dump_request_begin(stacks_signal)


def ask_on(int number):
    """Has a signal ask; returns 0, EBUSY where it has a handler of other code, or an errno."""
    return dump_request_on(number)


def wait():
    """Waits for a request, without the GIL."""
    with nogil:
        dump_request_wait(&dump_request_taken)


def done():
    """The dump that wait() returned for has been made."""
    sem_post(&dump_request_done)
