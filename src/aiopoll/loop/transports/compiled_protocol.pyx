"""The calls of a connection to its protocol and its server: of any, and of those that are compiled.

Facts.  asyncio distinguishes the two kinds of protocols by isinstance; uvloop by their methods.  A
server counts its connections, and from Python 3.13 on knows them.

Rule.  CompiledProtocol and BufferedSink are the two kinds, compiled: a stream calls them in C.
"""

from asyncio import BufferedProtocol


cdef bint is_buffered(object protocol) except -1:
    """Whether a protocol has a buffer of its own to read to.

    Such a one need not be a BufferedProtocol, as in uvloop, if it could not be used otherwise.
    """
    return isinstance(protocol, BufferedProtocol) or (
        hasattr(protocol, "get_buffer") and not hasattr(protocol, "data_received"))


cdef object source_of(object protocol):
    """A protocol's class, with the place of what takes its data, for lines about slow callbacks."""
    kind = type(protocol)
    for name in ("data_received", "buffer_updated", "datagram_received", "connection_made"):
        code = getattr(getattr(kind, name, None), "__code__", None)
        if code is not None and not code.co_filename.endswith("/asyncio/protocols.py"):
            return f"{kind.__qualname__}.{name}() at {code.co_filename}:{code.co_firstlineno}"
    return kind.__qualname__


cdef int attach(object server, object transport) except -1:
    """Makes a connection one of a server's; one that can close its clients learns of each."""
    if hasattr(server, "close_clients"):
        server._attach(transport)
    else:
        server._attach()
    return 0


cdef int detach(object server, object transport) except -1:
    if hasattr(server, "close_clients"):
        server._detach(transport)
    else:
        server._detach()
    return 0


cdef class CompiledProtocol:
    """A compiled Protocol."""

    cdef bint is_compiled(self) noexcept:
        """Whether no subclass has a data_received() of its own."""
        raise NotImplementedError

    cdef int receive(self, bytes data) except -1:
        """Does the work of data_received()."""
        raise NotImplementedError


cdef class BufferedSink:
    """A compiled BufferedProtocol that takes what came from where it was read to."""

    cdef int received(self, char *data, Py_ssize_t size) except -1:
        """Does buffer_updated()'s work; `data` is valid until it returns or releases the GIL."""
        raise NotImplementedError
