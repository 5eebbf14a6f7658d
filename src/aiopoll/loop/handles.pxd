"""asyncio's handles, made and run without going through Python code."""

from aiopoll.aio.free_threading cimport FREE_THREADED, is_this_thread
from aiopoll.reactor.ready_queue cimport ReadyQueue

cdef class TimerOwner:
    cdef public bint _debug
    cdef ReadyQueue ready
    cdef unsigned long running_thread  # 0: none

    cdef int timer_cancelled(self, object handle) except -1

cdef inline bint is_elsewhere(TimerOwner loop) noexcept:
    """Whether another thread runs the loop, which matters where no GIL guards it."""
    return FREE_THREADED and not is_this_thread(&loop.running_thread)

cdef inline int check_here(TimerOwner loop) except -1:
    """Raises RuntimeError, as asyncio's debug mode does, if the loop is elsewhere."""
    if is_elsewhere(loop):
        loop._check_thread()
    return 0

cdef class Handles:
    cdef Py_ssize_t callback
    cdef Py_ssize_t args
    cdef Py_ssize_t cancelled
    cdef Py_ssize_t loop
    cdef Py_ssize_t source_traceback
    cdef Py_ssize_t repr
    cdef Py_ssize_t context
    cdef Py_ssize_t scheduled
    cdef Py_ssize_t when
    cdef Py_ssize_t weakrefs

cdef object new_handle(object callback, tuple args, object loop, object context)
cdef object new_timer_handle(object when, object callback, tuple args, object loop, object context)
cdef void set_gc_tracking(object handle, bint untracked, bint context_too) noexcept
cdef int gc_track(object handle) except -1
cdef int drop_handle(object handle) except -1
cdef bint is_scheduled(object handle) except -1
cdef bint is_cancelled(object handle) except -1
cdef int cancel_handle(object handle, bint debug) except -1
cdef int set_scheduled(object handle, bint scheduled) except -1
cdef int run_handle(object handle) except -1
cdef object enter_context(object context)
cdef object callback_of(object handle)
cdef object format_handle(object handle)
cdef Py_ssize_t slot_offset(type owner, str name) except -1
