"""asyncio's own Handle and TimerHandle, made and run by compiled code.

Facts.  asyncio.Handle is a class with __slots__, and nothing can be derived from it and from a
compiled class at once.  Each slot is an object pointer at an offset that its member descriptor
has (PyMemberDef.offset).

Rule.  A handle is always a true asyncio.Handle or TimerHandle.  Where all slots are found,
compiled code fills and reads them in place and does what Handle._run does; any other object that is
found in the ready queue is asked to run itself.

Why.  The constructor and _run in Python cost a microsecond a callback; code that inspects handles
(debuggers, nest_asyncio, exception handlers) still finds what asyncio documents.

A handle that has run or was cancelled, and that no other code has, is used again.  Handles that
wait in a running loop are out of the garbage collector's sight, and where many wait their copies
of a context as well.  Until they have run the loop holds them, and it is alive, so that there is
nothing to collect; the collector would look at each of them again and again, which takes longer
than running them.  A context must be in sight before it is let go of, for its deallocation takes
it out of the collector's list: whatever leaves the queue or the heap, and all that waits when the
loop stops, goes through gc_track(), release() or drop_handle().

Without a GIL handles are neither used again nor hidden: another thread may have just found one, and
its collector does not look at the young ones again and again.

Cost.  A slot that a future asyncio adds is left unset; `SLOTS` below is compared with __slots__
at import, and where they differ the Python constructors are used.
"""

cimport cython
from cpython.contextvars cimport PyContext_Copy, PyContext_CopyCurrent
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF, Py_INCREF

from aiopoll.aio.free_threading cimport (
    FREE_THREADED, NO_THREAD, slot_get, slot_put, thread_get, thread_set,
)
from aiopoll.reactor.runnable cimport Runnable

import asyncio
from asyncio import format_helpers

cdef extern from "Python.h":
    bint PyContext_CheckExact(object context)
    object PyType_GenericAlloc(type type, Py_ssize_t nitems)
    int context_enter "PyContext_Enter"(object context)
    int PyMember_Check "PyObject_TypeCheck"(object descriptor, void *type)
    PyObject *PyObject_Vectorcall(object callable, PyObject **args, size_t nr_args, PyObject *names)
    void PyObject_GC_Track(PyObject *object)
    void PyObject_GC_UnTrack(PyObject *object)
    int PyObject_GC_IsTracked(PyObject *object)
    Py_ssize_t Py_REFCNT(PyObject *object)
    void *PyMemberDescr_Type_Address "(&PyMemberDescr_Type)"

cdef extern from *:
    """
    #define raised() (-1)
    """
    int raised() except -1  # raises the exception that is set

    ctypedef struct PyTupleObject:
        PyObject *ob_item[1]

cdef extern from "structmember.h":
    struct PyMemberDef:
        Py_ssize_t offset

    ctypedef struct MemberDescriptor "PyMemberDescrObject":
        PyMemberDef *d_member

SLOTS = frozenset({"_callback", "_args", "_cancelled", "_loop", "_source_traceback", "_repr",
                   "_context", "__weakref__"})
TIMER_SLOTS = frozenset({"_scheduled", "_when"})

cdef enum:
    SPARE_MAX = 16384  # handles of each kind that are kept: as many as a thread adds in its time slice


cdef struct Spares:
    # Not a list: one that has an item and then none again is reallocated each time.
    Py_ssize_t count
    PyObject *handles[SPARE_MAX]


cdef type Handle = asyncio.Handle


class TimerHandle(asyncio.TimerHandle):
    """asyncio's, with cancel() compiled: most timers are timeouts that are cancelled."""

    __slots__ = ()

    def cancel(self):
        """Cancels the call; does nothing if that was done before, or the call has been made."""
        if not (fast and type(self) is OurTimerHandle
                and isinstance(get(self, slots.loop), TimerOwner)):
            asyncio.TimerHandle.cancel(self)
            return
        if get(self, slots.cancelled) is not False:
            return
        cdef TimerOwner owner = get(self, slots.loop)
        owner.timer_cancelled(self)
        put(self, slots.cancelled, True)
        if owner._debug:
            put(self, slots.repr, repr(self))
        put(self, slots.callback, None)
        put(self, slots.args, None)


cdef type OurTimerHandle = TimerHandle


cdef Py_ssize_t slot_offset(type owner, str name) except -1:
    descriptor = owner.__dict__[name]
    if not PyMember_Check(descriptor, PyMemberDescr_Type_Address):
        raise TypeError(f"{owner.__name__}.{name} is not a slot")
    return (<MemberDescriptor *><PyObject *>descriptor).d_member.offset


@cython.no_gc_clear  # late finalizers may call it: its parts must be there
cdef class TimerOwner:
    """A loop, as its handles know it."""

    @property
    def _thread_id(self):
        return thread_get(&self.running_thread) or None

    @_thread_id.setter
    def _thread_id(self, ident):
        thread_set(&self.running_thread, ident or 0)
        thread_set(&self.ready.owner, ident or NO_THREAD)

    cdef int timer_cancelled(self, object handle) except -1:
        """A timer is about to be cancelled."""
        raise NotImplementedError


@cython.final
cdef class Handles:
    """Where the slots of the two classes are."""

    def __cinit__(self):
        if set(Handle.__slots__) != SLOTS or set(asyncio.TimerHandle.__slots__) != TIMER_SLOTS:
            raise TypeError("asyncio's handles have other slots")
        self.callback = slot_offset(Handle, "_callback")
        self.args = slot_offset(Handle, "_args")
        self.cancelled = slot_offset(Handle, "_cancelled")
        self.loop = slot_offset(Handle, "_loop")
        self.source_traceback = slot_offset(Handle, "_source_traceback")
        self.repr = slot_offset(Handle, "_repr")
        self.context = slot_offset(Handle, "_context")
        self.scheduled = slot_offset(asyncio.TimerHandle, "_scheduled")
        self.when = slot_offset(asyncio.TimerHandle, "_when")
        self.weakrefs = Handle.__weakrefoffset__


cdef Handles find_slots():
    try:
        return Handles()
    except (AttributeError, KeyError, TypeError):
        return None


cdef Handles slots = find_slots()
cdef bint fast = slots is not None
cdef Spares spare_handles
cdef Spares spare_timer_handles


cdef inline void put(object handle, Py_ssize_t offset, object value) noexcept:
    slot_put(<PyObject *>handle, offset, <PyObject *>value)


cdef inline object get(object handle, Py_ssize_t offset):
    return slot_get(<PyObject *>handle, offset)


cdef inline bint is_fast(object handle) noexcept:
    return fast and (type(handle) is Handle or type(handle) is OurTimerHandle)


cdef inline void first(object handle, Py_ssize_t offset, object value) noexcept:
    """put() into a slot that is empty."""
    Py_INCREF(value)
    (<PyObject **>(<char *><PyObject *>handle + offset))[0] = <PyObject *>value


cdef inline void empty(object handle, Py_ssize_t offset) noexcept:
    Py_CLEAR((<PyObject **>(<char *><PyObject *>handle + offset))[0])


cdef object allocate(type kind, Spares *spares):
    """A handle whose callback, args, loop and context are not set yet, out of the collector's sight."""
    cdef object handle
    if not FREE_THREADED and spares.count:
        spares.count -= 1
        handle = <object>spares.handles[spares.count]
        Py_DECREF(handle)
        return handle
    handle = PyType_GenericAlloc(kind, 0)
    if not FREE_THREADED:
        PyObject_GC_UnTrack(<PyObject *>handle)
    first(handle, slots.cancelled, False)
    first(handle, slots.repr, None)
    first(handle, slots.source_traceback, None)
    if kind is OurTimerHandle:
        first(handle, slots.scheduled, False)
    return handle


cdef inline void fill(object handle, object callback, tuple args, object loop, object context):
    first(handle, slots.context, PyContext_CopyCurrent() if context is None else context)
    first(handle, slots.loop, loop)
    first(handle, slots.callback, callback)
    first(handle, slots.args, args)


cdef object new_handle(object callback, tuple args, object loop, object context):
    """Handle(callback, args, loop, context), for a loop that is not in debug mode.

    The caller puts it where it waits, and calls set_gc_tracking().
    """
    if not fast:
        return Handle(callback, args, loop, context)
    handle = allocate(Handle, &spare_handles)
    fill(handle, callback, args, loop, context)
    return handle


cdef object new_timer_handle(object when, object callback, tuple args, object loop,
                             object context):
    """TimerHandle(when, callback, args, loop, context), likewise."""
    if not fast:
        return asyncio.TimerHandle(when, callback, args, loop, context)
    handle = allocate(OurTimerHandle, &spare_timer_handles)
    fill(handle, callback, args, loop, context)
    first(handle, slots.when, when)
    return handle


cdef void set_gc_tracking(object handle, bint untracked, bint context_too) noexcept:
    """Decides whether the garbage collector sees a new handle.

    untracked: its loop runs, and has it.  context_too: its context as well, which no other code
    has.
    """
    if FREE_THREADED or not fast:
        return
    if not untracked:
        PyObject_GC_Track(<PyObject *>handle)
    elif context_too:
        PyObject_GC_UnTrack((<PyObject **>(<char *><PyObject *>handle + slots.context))[0])


cdef inline void gc_track_context(object handle) noexcept:
    cdef PyObject *context = (<PyObject **>(<char *><PyObject *>handle + slots.context))[0]
    if context != NULL and PyContext_CheckExact(<object>context) and (
            not PyObject_GC_IsTracked(context)):
        PyObject_GC_Track(context)


cdef int gc_track(object handle) except -1:
    """Lets the garbage collector see a handle again."""
    if not FREE_THREADED and is_fast(handle):
        gc_track_context(handle)
        if not PyObject_GC_IsTracked(<PyObject *>handle):
            PyObject_GC_Track(<PyObject *>handle)
    return 0


cdef int release(object handle) except -1:
    """Takes back a handle that has run, or never will, unless anybody but the caller has it."""
    cdef Spares *spares = (&spare_timer_handles if type(handle) is OurTimerHandle
                           else &spare_handles)
    if FREE_THREADED:
        return 0
    if Py_REFCNT(<PyObject *>handle) > 1 or PyObject_GC_IsTracked(<PyObject *>handle) or (
            (<PyObject **>(<char *><PyObject *>handle + slots.weakrefs))[0] != NULL
            or get(handle, slots.source_traceback) is not None
            or get(handle, slots.repr) is not None):
        return gc_track(handle)
    gc_track_context(handle)
    if get(handle, slots.cancelled) is not False:
        put(handle, slots.cancelled, False)
    empty(handle, slots.callback)
    empty(handle, slots.args)
    empty(handle, slots.loop)
    empty(handle, slots.context)
    if type(handle) is OurTimerHandle:
        empty(handle, slots.when)
    if spares.count < SPARE_MAX:
        Py_INCREF(handle)
        spares.handles[spares.count] = <PyObject *>handle
        spares.count += 1
    return 0


cdef int drop_handle(object handle) except -1:
    """release() of what may be another object than a handle of ours."""
    return release(handle) if is_fast(handle) else 0


cdef bint is_cancelled(object handle) except -1:
    if is_fast(handle):
        return get(handle, slots.cancelled) is True
    return handle._cancelled


cdef int cancel_handle(object handle, bint debug) except -1:
    """handle.cancel() of a Handle."""
    if isinstance(handle, Runnable):
        (<Runnable>handle).cancel()
    elif debug or not fast or type(handle) is not Handle:
        handle.cancel()
    else:
        put(handle, slots.cancelled, True)
        put(handle, slots.callback, None)
        put(handle, slots.args, None)
    return 0


cdef bint is_scheduled(object handle) except -1:
    """Whether a TimerHandle is in its loop's heap."""
    if fast and type(handle) is OurTimerHandle:
        return get(handle, slots.scheduled) is True
    return handle._scheduled


cdef int set_scheduled(object handle, bint scheduled) except -1:
    if fast and type(handle) is OurTimerHandle:
        put(handle, slots.scheduled, scheduled)
    else:
        handle._scheduled = scheduled
    return 0


cdef int run_handle(object handle) except -1:
    """handle._run() unless it was cancelled; of a Runnable, run().

    An Exception goes to the loop's exception handler, all else is raised.
    """
    cdef PyObject *result
    if not is_fast(handle):
        if isinstance(handle, Runnable):
            return (<Runnable>handle).run()
        if not handle._cancelled:
            handle._run()
        return 0
    if get(handle, slots.cancelled) is True:
        return release(handle)
    context = get(handle, slots.context)
    callback = get(handle, slots.callback)
    args = get(handle, slots.args)
    if type(args) is not tuple or FREE_THREADED and callback is None:
        # The maker of the handle has given it something else, or another thread cancels it just now.
        if get(handle, slots.cancelled) is not True:
            handle._run()
        return 0
    if context_enter(context) < 0:  # it is in use, by the code that runs the loop or higher up
        return failed(handle, None, callback, <tuple>args)
    result = PyObject_Vectorcall(callback, (<PyTupleObject *>args).ob_item, len(<tuple>args), NULL)
    if result == NULL:
        return failed(handle, context, callback, <tuple>args)
    Py_DECREF(<object>result)
    PyContext_Exit(context)
    return release(handle)


cdef object enter_context(object context):
    """Enters a context, and returns which one is to be left.

    A copy where it is in use: a callback has called for the loop, and comes to be called again.
    """
    try:
        PyContext_Enter(context)
    except RuntimeError:
        context = PyContext_Copy(context)
        PyContext_Enter(context)
    return context


cdef int failed(object handle, object context, object callback, tuple args) except -1:
    """Deals with the exception that a callback has raised, and which is set.

    context: to be left; None if it was not entered.
    """
    gc_track(handle)
    try:
        raised()
    except BaseException as error:
        if context is not None:
            PyContext_Exit(context)
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise
        report(handle, context is not None, callback, args, error)
    return 0


cdef int report(object handle, bint entered, object callback, tuple args, object error) except -1:
    try:
        source = format_helpers._format_callback_source(callback, args)
    except AttributeError:
        source = repr(callback)
    failure = {"message": f"Exception in callback {source}", "exception": error}
    if entered:  # else asyncio, from 3.13 on, could not call the handler: it enters this context too
        failure["handle"] = handle
    traceback = get(handle, slots.source_traceback)
    if traceback:
        failure["source_traceback"] = traceback
    get(handle, slots.loop).call_exception_handler(failure)
    return 0


cdef object callback_of(object handle):
    """What a handle calls; None if it was cancelled."""
    return get(handle, slots.callback) if is_fast(handle) else handle._callback


cdef object format_handle(object handle):
    """A task's step is shown as the task."""
    task = getattr(getattr(handle, "_callback", None), "__self__", None)
    return repr(task) if isinstance(task, asyncio.Task) else str(handle)
