"""asyncio's Server, with what can be added to it on every Python.

Facts.  asyncio's wait_closed() returns at once on 3.11 if the server is closed; from 3.12.1 on it
waits until the server is closed and its last connection is gone.  close_clients(), abort_clients(),
keep_alive= and cleanup_socket= came with 3.13.  A connection that was accepted just before close()
can attach after it: asyncio fails an assertion then.

Rule.  What has to be asked for is there on every version.  All else is that of the running
Python's asyncio: wait_closed(), the end of serve_forever() and of `async with server`, and the
default of cleanup_socket.  Programs for 3.11 rely on a server that does not wait for its clients,
which may never go.

Why.  A server is asyncio's own class with another count of clients, so that whatever asks for
asyncio.base_events.Server finds it.  Connections attach as they are accepted, TLS ones too.
"""

import asyncio
import os
import socket
from asyncio import base_events
from asyncio.log import logger
from inspect import signature
from typing import Any

CLEANS_SOCKETS = (
    "cleanup_socket" in signature(asyncio.SelectorEventLoop.create_unix_server).parameters
)
"""Whether asyncio removes the file of a Unix server itself, and does so by default."""


class Server(base_events.Server):
    """The result of create_server() and create_unix_server()."""

    # asyncio's; the sockets are None once closed, the waiters once none has to wait any more.
    _loop: Any
    _sockets: list[socket.socket] | None
    _waiters: list[asyncio.Future[None]] | None

    def __init__(self, loop: Any, sockets: list[socket.socket], *options: Any) -> None:
        super().__init__(loop, sockets, *options)
        self._active_count = 0
        self._socket_files: list[tuple[str, int]] = []

    def _attach(self, transport: Any = None) -> None:
        self._active_count += 1
        # A connection that was accepted just before close() may come after it.
        if self._waiters is None:
            self._waiters = []

    def _detach(self, transport: Any = None) -> None:
        self._active_count -= 1
        self._wakeup()

    def _wakeup(self) -> None:
        """Ends the waiting, if the server is closed and its clients are gone."""
        if self._sockets is not None or self._active_count:
            return
        if self._waiters is None:
            return
        waiters, self._waiters = self._waiters, None
        if self._loop.is_closed():
            return  # a connection is collected that was open then: no task waits any more
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Stops accepting; connections go on.  Closing again does nothing."""
        super().close()
        self._wakeup()
        socket_files, self._socket_files = self._socket_files, []
        for path, inode in socket_files:
            remove_socket_file(path, inode)

    def close_clients(self) -> None:
        """Closes every connection that was accepted, once what was written is sent."""
        for transport in self._connections():
            transport.close()

    def abort_clients(self) -> None:
        """Closes every connection that was accepted at once; what was not sent is lost."""
        for transport in self._connections():
            transport.abort()

    def _connections(self) -> list[Any]:
        """The transports of this server, of all that the loop knows of."""
        transports = list(self._loop._transports.values())
        return [each for each in transports if getattr(each, "_server", None) is self]


async def serve(
    asyncios: Any, start_serving: bool, *, keep_alive: bool = False, cleanup_socket: bool = False
) -> Server:
    """A Server in place of asyncio's, which must not have begun to accept.

    cleanup_socket: whether close() removes the sockets' files.
    """
    server = Server(
        asyncios._loop,
        asyncios._sockets,
        asyncios._protocol_factory,
        asyncios._ssl_context,
        asyncios._backlog,
        asyncios._ssl_handshake_timeout,
        asyncios._ssl_shutdown_timeout,
    )
    for sock in asyncios._sockets:
        if keep_alive:  # what is accepted inherits it
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if cleanup_socket:
            server._socket_files += socket_file(sock)
    if start_serving:
        try:
            await server.start_serving()
        except BaseException:
            server.close()  # no other code could
            raise
    return server


def socket_file(sock: socket.socket) -> list[tuple[str, int]]:
    """The path and the inode of a Unix socket; nothing for an abstract or an unnamed one."""
    path = sock.getsockname()
    if not path or path[0] in (0, "\0"):
        return []
    try:
        return [(path, os.stat(path).st_ino)]
    except FileNotFoundError:
        return []


def remove_socket_file(path: str, inode: int) -> None:
    """Removes a socket's file, unless another one has taken its place."""
    try:
        if os.stat(path).st_ino == inode:
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)
