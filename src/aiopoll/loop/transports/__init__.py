"""Connections, datagrams, pipes and TLS, as asyncio's transports.

Lives here: `Stream`, a connection (stream), asyncio's interface to it (socket_transport),
listeners (accept), datagram, pipe, tls, addresses (sockaddr), the loop's table of transports
(table).

May import: aio, reactor, loop.

Data comes from recv(2), when the ready queue runs the transport.  It goes to the protocol, and
from write() to send(2).
"""
