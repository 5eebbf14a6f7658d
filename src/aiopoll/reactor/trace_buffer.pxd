"""The records of a trace; see c/trace_buffer.h."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t

cdef extern from "trace_buffer.h" nogil:
    enum:
        TRACE_TEXT
        TRACE_CALLBACK
        TRACE_TASK
        TRACE_ITERATION
        TRACE_SUBMIT
        TRACE_GETEVENTS
        TRACE_EPOLL_WAIT
        TRACE_EPOLL_CTL
        TRACE_CANCEL
        TRACE_BUSY_POLL
        TRACE_REAP
        TRACE_ARMED
        TRACE_READY
        TRACE_TIMER
        TRACE_WAKE
        TRACE_FILE
        TRACE_COLLECTION
        TRACE_INSTANT
        TRACE_SPAN

    ctypedef enum trace_kind:
        pass

    struct trace_record:
        int64_t at_ns
        int64_t took_ns
        int64_t value
        int64_t size
        int32_t fd
        uint16_t name
        uint8_t kind
        uint8_t detail

    struct trace_buffer:
        trace_record *records
        uint64_t room
        uint64_t reserved

    int trace_open(trace_buffer *buffer, uint64_t room)
    void trace_close(trace_buffer *buffer)
    void trace_add(trace_buffer *buffer, trace_record record)
    void trace_add_text(trace_buffer *buffer, trace_record record, const char *text, size_t length)
    void trace_note(trace_buffer *buffer, int kind, int fd, int64_t value, uint8_t detail)
    uint64_t trace_copy(trace_buffer *buffer, trace_record *records, uint64_t *lost)

cdef extern from *:
    """
    #include <sys/syscall.h>
    #include <unistd.h>

    static inline int native_thread(void)
    {
        return (int)syscall(SYS_gettid);
    }
    """
    int native_thread() noexcept nogil

cdef class TraceBuffer:
    cdef trace_buffer records
