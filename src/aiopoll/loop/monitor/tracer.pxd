"""What a thread's loop does, recorded."""

from libc.stdint cimport int64_t

from aiopoll.reactor.trace_buffer cimport TraceBuffer, trace_record

cdef enum:
    OPEN_MAX = 16  # slices that are open at once, and are known while they are

cdef class Tracer:
    cdef readonly TraceBuffer buffer
    cdef readonly dict numbers  # by (name, file, line): the number of the name
    cdef readonly list names  # by number: (name, file, line)
    cdef readonly int names_lost
    cdef public int thread
    cdef public str thread_name
    cdef public str backend
    cdef public bint running  # a loop runs that uses it
    cdef int depth
    cdef trace_record[OPEN_MAX] open_records
    cdef list open_texts

    cdef int number_of(self, object name, object file, object line) except -1
    cdef int number_of_function(self, object function) except -1
    cdef bytes describe(self, object handle, trace_record *record)
    cdef bytes describe_task(self, object task, trace_record *record)
    cdef int begin(self, trace_record *record, int kind, bytes text) except -1
    cdef int end(self, trace_record *record, bytes text) except -1
    cdef bytes begin_callback(self, object handle, trace_record *record)
