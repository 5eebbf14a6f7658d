"""The stream transport, for code that accepts connections."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t

from aiopoll.loop.transports.connection cimport Connection
from aiopoll.loop.transports.write_queue cimport WriteQueue
from aiopoll.reactor.registration cimport Registration
from aiopoll.reactor.runnable cimport Runnable

@cython.final
cdef class WriteReady(Runnable):
    cdef Stream stream
    cdef Registration registration

@cython.final
cdef class Stream(Connection):
    cdef Registration reading  # None: not watched for reading
    cdef WriteReady flusher  # made with the first write that waits
    cdef object limits  # low and high as they were set; None if they were not
    cdef WriteQueue queue  # what waits; None if nothing has waited yet
    cdef Py_ssize_t size  # of it, in bytes
    cdef Py_ssize_t high
    cdef Py_ssize_t low
    cdef uint8_t paused
    cdef uint8_t eof
    cdef uint8_t may_hold  # the kernel may hold a write back until the next one: MSG_MORE
    cdef uint8_t expected  # writes in the callback that wrote before this one
    cdef uint8_t written  # in this one
    cdef uint8_t held  # the last write was held back
    cdef uint8_t blocked
    cdef uint8_t draining
    cdef uint8_t protocol_paused
    cdef uint8_t pages  # what recv_bytes() keeps
    cdef uint32_t callback  # the one that wrote last, by LoopCore.callbacks

    cdef int call_connection_made(self) except -1
    cdef int start(self) except -1
    cdef int start_reading(self) except -1
    cdef int stop_reading(self) except -1
    cdef bint read_plain(self) except -1
    cdef bint read_buffered(self) except -1
    cdef bint read_memory(self) except -1
    cdef int on_eof_or_error(self, ssize_t count, int code) except -1
    cdef int append(self, bytes data) except -1
    cdef WriteReady write_ready(self)
    cdef int write(self, object data) except -1
    cdef int write_pieces(self, list pieces) except -1
    cdef int send_flags(self) except -1
    cdef ssize_t send(self, const char *data, Py_ssize_t size) except? -1
    cdef int keep_rest(self, bytes data, ssize_t sent) except -1
    cdef ssize_t send_queue(self) noexcept
    cdef int drop_sent(self, Py_ssize_t taken) except -1
    cdef int flush(self) except -1
    cdef int send_failed(self, int code) except -1
    cdef int block(self) except -1
    cdef int unblock(self) except -1
    cdef int drained(self) except -1
    cdef int pause_protocol(self) except -1
    cdef int resume_protocol(self) except -1

cdef Py_ssize_t limit_as_size(object limit) except -1
