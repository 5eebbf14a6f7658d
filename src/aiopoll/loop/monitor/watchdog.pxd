"""The watchdog, as loops use it."""

from libc.stdint cimport int64_t, uint64_t

cdef extern from "watchdog.h" nogil:
    cdef enum WatchState "watch_state":
        WATCH_QUIET
        WATCH_ASKED
        WATCH_SEEN
        WATCH_KEPT
        WATCH_PRINTED
        WATCH_ENDED

    enum:
        CALL_UNKNOWN
        CALL_RUNNING
        CALL_NONE

    ctypedef struct Sample "struct thread_sample":
        long call
        unsigned long[6] args
        unsigned long switches
        int error
        char state
        char *wchan
        char *file

    ctypedef struct CWatch "struct watch":
        const uint64_t *callbacks
        const int *in_callbacks
        const uint64_t *iterations
        const int *sleeping
        int tid
        int64_t limit_ns
        WatchState before
        bint in_poll
        int64_t took_ns
        int64_t since_ns
        int64_t asked_ns
        int dump_error
        Sample sample
        char *dump
        char *all_dumped

cdef class Watch:
    cdef CWatch watch
    cdef readonly object loop  # that runs; None while none does
    cdef object report

    cdef int enter(self, object loop, const uint64_t *callbacks, const int *in_callbacks,
                   const uint64_t *iterations, const int *sleeping) except -1
    cdef int leave(self) except -1
    cdef object observe(self, WatchState state)
