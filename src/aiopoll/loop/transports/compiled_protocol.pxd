"""The calls of a connection to its protocol and its server."""

cdef class CompiledProtocol:
    cdef bint is_compiled(self) noexcept
    cdef int receive(self, bytes data) except -1

cdef class BufferedSink:
    cdef int received(self, char *data, Py_ssize_t size) except -1

cdef bint is_buffered(object protocol) except -1
cdef int attach(object server, object transport) except -1
cdef int detach(object server, object transport) except -1
cdef object source_of(object protocol)
