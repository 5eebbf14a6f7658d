"""SocketTransport, for code that accepts connections."""

from aiopoll.loop.core cimport LoopCore
from aiopoll.loop.transports.sockaddr cimport address
from aiopoll.loop.transports.stream cimport Stream

cdef Stream stream_behind(object transport)
cdef int write_to(Stream stream, object data) except -1

cdef object accepted_transport(LoopCore loop, int fd, const address *peer, object protocol,
                               object server, object context)
