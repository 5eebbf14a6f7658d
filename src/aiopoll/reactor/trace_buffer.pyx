"""The memory of a trace, and its records as Python can read them; see c/trace_buffer.h."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

KINDS = {
    "TEXT": TRACE_TEXT, "CALLBACK": TRACE_CALLBACK, "TASK": TRACE_TASK,
    "ITERATION": TRACE_ITERATION, "SUBMIT": TRACE_SUBMIT, "GETEVENTS": TRACE_GETEVENTS,
    "EPOLL_WAIT": TRACE_EPOLL_WAIT, "EPOLL_CTL": TRACE_EPOLL_CTL, "CANCEL": TRACE_CANCEL,
    "BUSY_POLL": TRACE_BUSY_POLL, "REAP": TRACE_REAP, "ARMED": TRACE_ARMED,
    "READY": TRACE_READY, "TIMER": TRACE_TIMER, "WAKE": TRACE_WAKE,
    "FILE": TRACE_FILE, "COLLECTION": TRACE_COLLECTION, "INSTANT": TRACE_INSTANT,
    "SPAN": TRACE_SPAN,
}
"""The kinds of C by name: those of trace_kinds.Kind."""

RECORD = "=qqqqiHBB"
"""A record for struct: at_ns, took_ns, value, size, fd, name, kind, detail."""


@cython.final
cdef class TraceBuffer:
    """The newest records of a trace.

    size: how many are kept at least; a power of two is.
    """

    def __cinit__(self, size=64):
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"size must be an int, not {type(size).__name__}")
        if not 1 <= size <= 1 << 30:
            raise ValueError(f"size must be from 1 to {1 << 30} records, not {size}")
        if trace_open(&self.records, size) < 0:
            raise MemoryError(f"no memory for a trace of {size} records")

    def __dealloc__(self):
        trace_close(&self.records)

    @property
    def size(self):
        """How many records are kept."""
        return self.records.room

    @property
    def recorded(self):
        """How many records there were, those that are kept no more too."""
        return self.records.reserved

    def copy(self):
        """Returns (records, lost): the bytes of those that are kept, and how many were before."""
        cdef uint64_t lost = 0, nr
        cdef bytes copied = PyBytes_FromStringAndSize(
            NULL, self.records.room * sizeof(trace_record))
        cdef trace_record *records = <trace_record *>PyBytes_AS_STRING(copied)
        # With the GIL: else the loop would go on, and overwrite what is copied.
        nr = trace_copy(&self.records, records, &lost)
        return copied[:nr * sizeof(trace_record)], lost
