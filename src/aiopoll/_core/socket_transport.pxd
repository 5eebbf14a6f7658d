"""SocketTransport, for whoever accepts connections."""

from aiopoll._core.loop cimport LoopCore
from aiopoll._core.stream cimport socket_name

cdef object accepted_transport(LoopCore loop, int fd, socket_name *peer, object protocol,
                               object server)
