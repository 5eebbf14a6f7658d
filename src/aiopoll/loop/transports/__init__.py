"""Connections, datagrams, pipes and TLS, as asyncio's transports.

Lives here: `Connection`, its life and number (connection); `Stream`, which reads and writes
(stream, recv_buffer, write_queue), asyncio's interface to it (socket_transport), listeners
(accept), datagram and pipe (over fd_reader), tls, addresses (sockaddr), the loop's table of
transports (table), and asyncio's own for sockets with overridden methods (selector_transports).

May import: aio, reactor, loop.

Data comes from recv(2), when the ready queue runs the transport.  It goes to the protocol, and
from write() to send(2).
"""
