"""asyncio's own Handle and TimerHandle, made and run by compiled code.

Facts.  asyncio.Handle is a class with __slots__, and nothing can be derived from it and from a
compiled class at once.  Each slot is an object pointer at an offset that its member descriptor
tells (PyMemberDef.offset).

Rule.  A handle is always a true asyncio.Handle.  Where all slots are found, compiled code fills
and reads them in place and does what Handle._run does; any other object that is found in the
ready queue is asked to run itself.

Why.  The constructor and _run in Python cost a microsecond a callback; who inspects handles
(debuggers, nest_asyncio, exception handlers) still finds what asyncio documents.

Cost.  A slot that a future asyncio adds is left unset; `SLOTS` below is compared with __slots__
at import, and where they differ the Python constructors are used.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF

import asyncio
from asyncio import format_helpers

cdef extern from "Python.h":
    object PyType_GenericAlloc(type type, Py_ssize_t nitems)
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    int PyMember_Check "PyObject_TypeCheck"(object descriptor, void *type)
    void *PyMemberDescr_Type_Address "(&PyMemberDescr_Type)"

cdef extern from "structmember.h":
    struct PyMemberDef:
        Py_ssize_t offset

    ctypedef struct MemberDescriptor "PyMemberDescrObject":
        PyMemberDef *d_member

SLOTS = frozenset({"_callback", "_args", "_cancelled", "_loop", "_source_traceback", "_repr",
                   "_context", "__weakref__"})
TIMER_SLOTS = frozenset({"_scheduled", "_when"})

cdef type Handle = asyncio.Handle
cdef type TimerHandle = asyncio.TimerHandle


cdef Py_ssize_t slot_offset(type owner, str name) except -1:
    descriptor = owner.__dict__[name]
    if not PyMember_Check(descriptor, PyMemberDescr_Type_Address):
        raise TypeError(f"{owner.__name__}.{name} is not a slot")
    return (<MemberDescriptor *><PyObject *>descriptor).d_member.offset


cdef class Runnable:
    """What the ready queue holds beside handles: compiled code, run without a call through Python.

    Only what must end the loop (SystemExit, KeyboardInterrupt) may leave run().  `_run` and
    `_cancelled` are for whoever runs the queue in the loop's place.
    """

    _cancelled = False

    cdef int run(self) except -1:
        raise NotImplementedError

    cdef int cancel(self) except -1:
        """Its file is not watched any more; a run that is queued already must do nothing."""
        return 0

    def _run(self):
        self.run()


@cython.final
cdef class Handles:
    """Where the slots of the two classes are."""

    def __cinit__(self):
        if set(Handle.__slots__) != SLOTS or set(TimerHandle.__slots__) != TIMER_SLOTS:
            raise TypeError("asyncio's handles have other slots")
        self.callback = slot_offset(Handle, "_callback")
        self.args = slot_offset(Handle, "_args")
        self.cancelled = slot_offset(Handle, "_cancelled")
        self.loop = slot_offset(Handle, "_loop")
        self.source_traceback = slot_offset(Handle, "_source_traceback")
        self.repr = slot_offset(Handle, "_repr")
        self.context = slot_offset(Handle, "_context")
        self.scheduled = slot_offset(TimerHandle, "_scheduled")
        self.when = slot_offset(TimerHandle, "_when")


cdef Handles find_slots():
    try:
        return Handles()
    except (AttributeError, KeyError, TypeError):
        return None


cdef Handles slots = find_slots()
cdef bint fast = slots is not None


cdef inline void put(object handle, Py_ssize_t offset, object value) noexcept:
    cdef PyObject **slot = <PyObject **>(<char *><PyObject *>handle + offset)
    cdef PyObject *old = slot[0]
    Py_INCREF(value)
    slot[0] = <PyObject *>value
    Py_XDECREF(old)


cdef inline object get(object handle, Py_ssize_t offset):
    cdef PyObject *value = (<PyObject **>(<char *><PyObject *>handle + offset))[0]
    if value == NULL:
        raise AttributeError("this handle was not initialised")
    return <object>value


cdef inline bint is_fast(object handle) noexcept:
    return fast and (type(handle) is Handle or type(handle) is TimerHandle)


cdef inline void fill(object handle, object callback, tuple args, object loop, object context):
    put(handle, slots.context, PyContext_CopyCurrent() if context is None else context)
    put(handle, slots.loop, loop)
    put(handle, slots.callback, callback)
    put(handle, slots.args, args)
    put(handle, slots.cancelled, False)
    put(handle, slots.repr, None)
    put(handle, slots.source_traceback, None)


cdef object new_handle(object callback, tuple args, object loop, object context):
    """Handle(callback, args, loop, context), for a loop that is not in debug mode."""
    if not fast:
        return Handle(callback, args, loop, context)
    handle = PyType_GenericAlloc(Handle, 0)
    fill(handle, callback, args, loop, context)
    return handle


cdef object new_timer_handle(double when, object callback, tuple args, object loop,
                             object context):
    """TimerHandle(when, callback, args, loop, context), likewise."""
    if not fast:
        return TimerHandle(when, callback, args, loop, context)
    handle = PyType_GenericAlloc(TimerHandle, 0)
    fill(handle, callback, args, loop, context)
    put(handle, slots.when, when)
    put(handle, slots.scheduled, False)
    return handle


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


cdef int set_scheduled(object handle, bint scheduled) except -1:
    """Says whether a TimerHandle is in its loop's heap."""
    if fast and type(handle) is TimerHandle:
        put(handle, slots.scheduled, scheduled)
    else:
        handle._scheduled = scheduled
    return 0


cdef int run_handle(object handle) except -1:
    """handle._run(): an Exception goes to the loop's exception handler, all else is raised."""
    if not is_fast(handle):
        handle._run()
        return 0
    context = get(handle, slots.context)
    callback = get(handle, slots.callback)
    args = <tuple>get(handle, slots.args)
    try:
        PyContext_Enter(context)
        try:
            callback(*args)
        finally:
            PyContext_Exit(context)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        report(handle, callback, args, error)
    return 0


cdef int report(object handle, object callback, tuple args, object error) except -1:
    try:
        source = format_helpers._format_callback_source(callback, args)
    except AttributeError:
        source = repr(callback)
    failure = {"message": f"Exception in callback {source}", "exception": error, "handle": handle}
    traceback = get(handle, slots.source_traceback)
    if traceback:
        failure["source_traceback"] = traceback
    get(handle, slots.loop).call_exception_handler(failure)
    return 0
