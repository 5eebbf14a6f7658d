"""What is handed to a loop to make a connection of: sockets that are lent, files that are no pipes.

Facts.  A program that passes sock= has the socket until create_connection() returns.  asyncio
closes it if that fails or is cancelled, some turns later; a program that closes it too, or uses it
again, then meets a number that may belong to another connection.

Rule.  A socket is lent until there is a connection.  If there will be none, it is let go at
once, open, before the exception reaches the caller: it is the caller's to close.
"""

import os
import stat
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiopoll._core.socket_transport import SocketTransport

_T = TypeVar("_T")


class LentSockets:
    """The sockets of callers whose connections are being made."""

    def __init__(self, transports: Any) -> None:
        # asyncio's, by descriptor
        self._transports = transports
        self._sockets: set[Any] = set()

    def mark(self, transport: SocketTransport, sock: Any) -> SocketTransport:
        """Notes on a new transport whether its socket is lent."""
        if self._sockets and sock in self._sockets:
            transport._lent = True
        return transport

    async def lend(self, sock: Any, connecting: Coroutine[Any, Any, _T]) -> _T:
        """Awaits `connecting`; gives `sock` back if that raises."""
        if not hasattr(sock, "fileno"):
            return await connecting  # which says what is wrong with it
        fd = sock.fileno()
        self._sockets.add(sock)
        try:
            connected = await connecting
        except BaseException:
            transport = self._transports.get(fd)
            if transport is not None and getattr(transport, "_lent", False):
                transport.abort()
            raise
        finally:
            self._sockets.discard(sock)
        transport = self._transports.get(fd)
        if transport is not None:
            transport._lent = False
        return connected


def check_pipe(pipe: Any, call: str) -> None:
    """Raises ValueError for what is no pipe, socket or character device."""
    mode = os.fstat(pipe.fileno()).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode):
        return
    kind = "a regular file" if stat.S_ISREG(mode) else "neither"
    raise ValueError(
        f"{call}() is for pipes, sockets and character devices only, and {pipe!r} is {kind}: a file"
        " is always ready, so that waiting for it tells nothing"
    )
