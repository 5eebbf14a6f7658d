"""The coroutine that the methods of streams return."""

from aiopoll.loop.streams.core cimport StreamProtocolCore, StreamReaderCore, StreamWriterCore

cdef enum State:
    NEW
    WAITING
    YIELDED  # drain() lets the loop run once
    DONE

cdef enum Operation:
    READ
    READ_ALL
    READ_EXACTLY
    READ_UNTIL
    READ_LINE
    NEXT_LINE
    DRAIN

cdef class StreamCoroutine:
    cdef State state
    cdef Operation operation
    cdef object waiter
    cdef StreamReaderCore reader  # None for drain()
    cdef StreamWriterCore writer
    cdef StreamProtocolCore protocol
    cdef Py_ssize_t count  # bytes wanted
    cdef object separators  # bytes, or a list of them from short to long
    cdef Py_ssize_t searched  # no separator begins before
    cdef list blocks

    cdef object resumed(self)
    cdef int release(self) except -1
    cdef object wait(self, object waiter)
    cdef int waited(self) except -1
    cdef int forget_waiter(self) except -1
    cdef int stop(self) except -1
    cdef object wait_for_data(self)
    cdef object read(self, bint fresh)
    cdef object read_all(self, bint fresh)
    cdef object read_exactly(self, bint fresh)
    cdef object read_until(self, bint fresh)
    cdef object line(self, bytes data)
    cdef object failed(self, object error)
    cdef object drain(self, State state)

cdef StreamCoroutine new_read(StreamReaderCore reader, Operation operation, Py_ssize_t count,
                              object separators)
cdef StreamCoroutine new_drain(StreamWriterCore writer, StreamProtocolCore protocol)
