"""What a thread's loop does, recorded: callbacks, the steps of tasks, iterations, collections.

Facts.  A handle is used again once it has run, and a task's step may end the task.  A name that is
asked of a program's object may be code of the program's.

Rule.  What a callback is called is found before it runs, and is kept as text: a name that comes
often as the number of a table, a task's in the records themselves.  asyncio's own names, "Task-7",
are kept as their number.  Of the objects nothing is kept.  What a callback's name raises is no name.

Why.  The text of a function is there as long as its code; a task's differs from task to task.

Cost.  Two readings of the clock a callback, and the look for its name, which for a task has calls
in Python's C code.  The table has NAMES_MAX names; what comes later is "(another)".

Failure prevented.  A trace that kept callbacks would keep their connections: sockets that the
program has dropped would stay open.
"""

cimport cython
from libc.string cimport memset

from aiopoll.aio.clock cimport clock_ns
from aiopoll.loop.handles cimport callback_of, is_cancelled
from aiopoll.reactor.runnable cimport Runnable
from aiopoll.reactor.trace_buffer cimport (
    TRACE_CALLBACK, TRACE_COLLECTION, TRACE_FILE, TRACE_INSTANT, TRACE_SPAN, TRACE_TASK,
    native_thread, trace_add, trace_add_text,
)

import asyncio
import functools
import json
import threading
import types

cdef enum:
    NAMES_MAX = 65535
    UNWRAPS_MAX = 8  # partials in partials

cdef object Task = asyncio.Task
cdef object partial = functools.partial
cdef type FunctionType = types.FunctionType
cdef type MethodType = types.MethodType


@cython.final
cdef class Tracer:
    """Records into a buffer of at least `size` records."""

    def __cinit__(self, size=64):
        self.buffer = TraceBuffer(size)
        self.numbers = {}
        self.names = [("(another)", "", 0)]
        self.open_texts = []
        self.thread_name = self.backend = ""

    def enter_thread(self):
        """The thread that calls it runs the loop."""
        self.thread = native_thread()
        self.thread_name = threading.current_thread().name

    # Names

    cdef int number_of(self, object name, object file, object line) except -1:
        cdef tuple key
        if type(name) is not str:  # a subclass's may have attributes, and those would be kept
            return 0
        key = (name, file, line)
        number = self.numbers.get(key)
        if number is not None:
            return number
        with cython.critical_section(self):
            number = self.numbers.get(key, 0)
            if not number and len(self.names) <= NAMES_MAX:
                self.numbers[key] = number = len(self.names)
                self.names.append(key)
            self.names_lost += not number
        return number

    cdef int number_of_function(self, object function) except -1:
        """The number of the name of what can be called; 0 where asking for it fails."""
        cdef int unwraps
        try:
            for unwraps in range(UNWRAPS_MAX):
                if type(function) is MethodType:
                    function = function.__func__
                elif isinstance(function, partial):
                    function = function.func
                else:
                    break
            if type(function) is FunctionType:
                code = function.__code__
                return self.number_of(function.__qualname__, code.co_filename, code.co_firstlineno)
            name = getattr(function, "__qualname__", None)
            if type(name) is not str:
                name = type(function).__qualname__
            return self.number_of(name, "", 0)
        except Exception:
            return 0

    cdef bytes describe(self, object handle, trace_record *record):
        """Fills in what a handle is called; returns the text that belongs to it, or None."""
        record.kind = TRACE_CALLBACK
        if isinstance(handle, Runnable):
            record.name = self.number_of(type(handle).__name__, "", 0)
            return None
        callback = callback_of(handle)
        if type(callback) is not FunctionType and type(callback) is not partial:
            try:
                owner = callback.__self__  # of a task's step, and of its wake-up
            except Exception:
                owner = None
            if isinstance(owner, Task):
                return self.describe_task(owner, record)
        record.name = self.number_of_function(callback)
        return None

    cdef bytes describe_task(self, object task, trace_record *record):
        record.kind = TRACE_TASK
        record.value = -1
        try:
            coroutine = task.get_coro()
            code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
            name = getattr(coroutine, "__qualname__", None)
            if type(name) is not str:
                name = type(coroutine).__qualname__
            if type(code) is types.CodeType:
                record.name = self.number_of(name, code.co_filename, code.co_firstlineno)
            else:
                record.name = self.number_of(name, "", 0)
            title = task.get_name()
            if title.startswith("Task-") and title[5:].isdecimal() and len(title) < 23:
                record.value = int(title[5:])
                if f"Task-{record.value}" == title:
                    return None
                record.value = -1
            return title.encode("utf-8", "replace")
        except Exception:
            return None

    # Slices

    cdef int begin(self, trace_record *record, int kind, bytes text) except -1:
        """Begins a slice, which end() records; until then a reader knows of it.

        kind: 0 for a record that is filled in.
        """
        if kind:
            memset(record, 0, sizeof(trace_record))
            record.kind = kind
        record.at_ns = clock_ns()
        with cython.critical_section(self):
            if self.depth < OPEN_MAX:
                self.open_records[self.depth] = record[0]
                self.open_texts.append(text)
            self.depth += 1
        return 0

    cdef int end(self, trace_record *record, bytes text) except -1:
        if not record.kind:
            return 0  # it has not begun
        record.took_ns = clock_ns() - record.at_ns
        with cython.critical_section(self):
            self.depth -= 1
            if len(self.open_texts) > self.depth:
                self.open_texts.pop()
        if text is None:
            trace_add(&self.buffer.records, record[0])
        else:
            trace_add_text(&self.buffer.records, record[0], text, len(text))
        return 0

    cdef bytes begin_callback(self, object handle, trace_record *record):
        """Begins the slice of a callback; its kind stays 0 where that was cancelled."""
        memset(record, 0, sizeof(trace_record))
        if not isinstance(handle, Runnable) and is_cancelled(handle):
            return None
        try:
            text = self.describe(handle, record)
            self.begin(record, 0, text)
        except BaseException:  # a Ctrl-C, while code of the program's was asked for a name
            record.kind = 0
            raise
        return text

    def open(self):
        """The slices that have begun, the outermost first: (kind, at_ns, name, value, text)."""
        cdef int i
        cdef list found = []
        with cython.critical_section(self):
            for i in range(min(self.depth, len(self.open_texts))):
                found.append((self.open_records[i].kind, self.open_records[i].at_ns,
                              self.open_records[i].name, self.open_records[i].value,
                              self.open_texts[i]))
        return found

    # What others record

    def instant(self, str name, args=None):
        """Records that something happens now.

        args: what json can write; repr() of all else.
        """
        cdef trace_record record
        cdef bytes text = b"" if args is None else encode(args)
        memset(&record, 0, sizeof(record))
        record.kind = TRACE_INSTANT
        record.name = self.number_of(name, "", 0)
        record.fd = native_thread()
        record.at_ns = clock_ns()
        trace_add_text(&self.buffer.records, record, text, len(text))

    def span(self, str name, int64_t at_ns, args=None):
        """Records what has begun at `at_ns` and ends now."""
        cdef trace_record record
        cdef bytes text = b"" if not args else encode(args)
        memset(&record, 0, sizeof(record))
        record.kind = TRACE_SPAN
        record.name = self.number_of(name, "", 0)
        record.at_ns = at_ns
        record.took_ns = clock_ns() - at_ns
        trace_add_text(&self.buffer.records, record, text, len(text))

    def file_request(self, str name, int fd, int64_t at_ns, int64_t offset, int64_t length,
                     int detail):
        """Records a request of a file that ends now; detail: its route and operation."""
        cdef trace_record record
        memset(&record, 0, sizeof(record))
        record.kind = TRACE_FILE
        record.name = self.number_of(name, "", 0)
        record.at_ns = at_ns
        record.took_ns = clock_ns() - at_ns
        record.fd = fd
        record.value = offset
        record.size = length
        record.detail = detail
        trace_add(&self.buffer.records, record)

    def collection(self, int64_t at_ns, int64_t took_ns, int generation, int64_t collected):
        """Records a garbage collection of the calling thread."""
        cdef trace_record record
        memset(&record, 0, sizeof(record))
        record.kind = TRACE_COLLECTION
        record.at_ns = at_ns
        record.took_ns = took_ns
        record.value = collected
        record.detail = generation
        record.fd = native_thread()
        trace_add(&self.buffer.records, record)


@cython.final
cdef class CollectionCallback:
    """What gc.callbacks has while there are traces: records collections in them.

    traces: the open ones, each with `tracers`.  It is compiled, as no Ctrl-C comes in the midst of
    it: the collector would drop that.
    """

    cdef set traces
    cdef dict begun_ns  # by thread: when its collection began

    def __cinit__(self, *args):
        self.traces = set()
        self.begun_ns = {}

    def __init__(self, set traces not None):
        self.traces = traces

    def forget(self):
        """No collection has begun: this is the child of a fork."""
        self.begun_ns.clear()

    def __call__(self, phase, info):
        cdef int thread = native_thread()
        cdef int64_t at_ns, took_ns
        cdef Tracer tracer
        if phase == "start":
            self.begun_ns[thread] = clock_ns()
            return
        begun_ns = self.begun_ns.pop(thread, None)
        if begun_ns is None:
            return  # it was not watched then
        at_ns = begun_ns
        took_ns = clock_ns() - at_ns
        tracers = [tracer for trace in list(self.traces) for tracer in trace.tracers]
        # Without a loop in this thread it keeps all loops waiting.
        own = [tracer for tracer in tracers if tracer.thread == thread]
        for tracer in own or tracers:
            tracer.collection(at_ns, took_ns, info["generation"], info["collected"])


cdef bytes encode(object args):
    """What is written of arguments; it never fails: the program runs as it does untraced."""
    try:
        text = json.dumps(args, ensure_ascii=True, default=repr)
    except Exception:  # keys that are no names, a circle, a repr() that fails
        text = json.dumps({str(key): shown(args[key]) for key in args}, ensure_ascii=True)
    return text.encode("ascii")


cdef object shown(object value):
    if isinstance(value, str):
        return value
    try:
        return repr(value)
    except Exception:
        return f"{type(value).__name__} object"
