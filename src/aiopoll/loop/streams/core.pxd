"""The data of streams, which the coroutines work on."""

from aiopoll.loop.streams.buffer cimport StreamBuffer
from aiopoll.loop.transports.compiled_protocol cimport CompiledProtocol

cdef class StreamReaderCore:
    cdef public object _loop
    cdef public object _waiter
    cdef public object _exception
    cdef public object _transport
    cdef public bint _eof
    cdef public bint _paused
    cdef object limit
    cdef Py_ssize_t limit_low  # reading goes on
    cdef Py_ssize_t limit_high  # reading pauses
    cdef StreamBuffer buffer
    cdef bint plain_futures

    cdef int feed(self, object data) except -1
    cdef int wake(self) except -1
    cdef int pause(self) except -1
    cdef int resume(self) except -1
    cdef object new_future(self)

cdef class StreamWriterCore:
    cdef public object _transport
    cdef public object _protocol
    cdef public object _reader
    cdef public object _loop

cdef class StreamProtocolCore(CompiledProtocol):
    cdef public object _loop
    cdef public object _stream_reader_wr
    cdef public object _drain_waiters
    cdef public bint _paused
    cdef public bint _connection_lost

cdef void set_reader_type(type kind) noexcept
cdef bint is_plain_reader(object reader) noexcept
