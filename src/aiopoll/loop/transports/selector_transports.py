"""asyncio's own transports, for sockets whose methods are not socket.socket's.

Facts.  A program may override recv(), send(), accept() or fileno() in a class of its own, or
replace them in socket.socket itself: to count bytes, to simulate a network, to forbid one.
asyncio calls such methods; a system call of ours would go past them.  asyncio's transports ask
for the descriptor once, and hand the loop that number from then on.

Rule.  What is not a plain socket.socket gets asyncio's transport, whose number is a Descriptor: the
loop then adds and removes the registration of that very file only.

Why.  Whatever a method does, and however often it is called, is asyncio's business then.

Cost.  asyncio's speed, for these sockets only.

Failure prevented.  A program counts what its connection receives by overriding recv().  A transport
of ours would call recv(2), and the program would count nothing.
"""

import errno
import os
import socket
from asyncio import selector_events, transports
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiopoll.reactor.descriptor import Descriptor

# The bases, which typeshed does not have in full.
if TYPE_CHECKING:

    class _SocketBase(transports.Transport):
        _sock: socket.socket | None
        _conn_lost: int

    class _DatagramBase(transports.DatagramTransport):
        _sock: socket.socket | None
        _conn_lost: int
        _buffer: Any
        _buffer_size: int
        _protocol: Any
        _loop: Any

        _address: Any

        def _read_ready(self) -> None: ...
        def _sendto_ready(self) -> None: ...
        def _maybe_resume_protocol(self) -> None: ...

else:
    _SocketBase = selector_events._SelectorSocketTransport

    class _DatagramBase(selector_events._SelectorDatagramTransport, transports.DatagramTransport):
        pass


class ToldOnce:
    """Calls connection_lost() of its protocol once.

    asyncio's calls connection_lost() a second time where resume_writing(), called for the last of
    what waited, ends the connection: the call that this queues is the one that counts.  Newer ones
    see to that themselves.
    """

    _sending = False
    _ended = False  # by resume_writing()

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        transport: Any = self
        if transport._sock is not None and not (self._sending and self._ended):
            super()._call_connection_lost(exc)  # type: ignore[misc]

    def _maybe_resume_protocol(self) -> None:
        super()._maybe_resume_protocol()  # type: ignore[misc]
        transport: Any = self
        self._ended = bool(transport._conn_lost)

    def _sends(self, name: str) -> None:
        self._sending = True
        self._ended = False
        try:
            getattr(super(), name)()
        finally:
            self._sending = False


class SelectorSocketTransport(ToldOnce, _SocketBase):
    """asyncio's transport of a stream connection."""

    _descriptor: int

    @property
    def _sock_fd(self) -> int:
        return self._descriptor

    @_sock_fd.setter
    def _sock_fd(self, number: int) -> None:
        self._descriptor = Descriptor(number, self._sock)

    # asyncio's names of its sending, from 3.12 on and before.

    def _write_sendmsg(self) -> None:
        self._sends("_write_sendmsg")

    def _write_send(self) -> None:
        self._sends("_write_send")

    def _write_ready(self) -> None:
        self._sends("_write_ready")

    def _close_if_lost(self, sock: socket.socket) -> None:
        """Closes `sock` at once, if it is this connection's and nothing more will be sent.

        connection_lost() is called later, as always.
        """
        if self._conn_lost and self._sock is sock:
            sock.close()


class SelectorDatagramTransport(ToldOnce, _DatagramBase):
    """asyncio's transport of a UDP or Unix datagram socket."""

    _descriptor: int
    _reader: Any = None  # the DatagramReader of one whose methods are socket.socket's

    @property
    def _sock_fd(self) -> int:
        return self._descriptor

    @_sock_fd.setter
    def _sock_fd(self, number: int) -> None:
        self._descriptor = Descriptor(number, self._sock)

    def _lost_number(self) -> None:
        """Reports that the socket was closed by its owner; once, for nothing will be received."""
        self._loop._remove_reader(self._sock_fd)
        self._protocol.error_received(OSError(errno.EBADF, os.strerror(errno.EBADF)))

    def _read_ready(self) -> None:
        if self._sock is None or self._conn_lost or self._sock.fileno() == self._sock_fd:
            super()._read_ready()
        else:
            self._lost_number()

    def _sendto_ready(self) -> None:
        self._sends("_sendto_ready")
        if not self._buffer and self._buffer_size:
            # Python 3.13.0 counts in what it does not count out, and then never resumes.
            self._buffer_size = 0
            if self._protocol is not None:
                self._maybe_resume_protocol()

    def sendto_many(self, datagrams: Iterable[Any], addr: Any = None) -> None:
        """sendto() for each of several datagrams, by as few system calls as the kernel allows.

        Raises TypeError or ValueError where sendto() would for one of them, and then sends none.
        """
        pieces = list(datagrams)
        for data in pieces:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                self.sendto(data, addr)  # raises, in the words of the running Python
        if pieces and self._address and addr is not None and addr != self._address:
            self.sendto(b"none", addr)  # likewise
        at = 0
        while at < len(pieces):
            at += self._send_run(pieces, at, addr)

    def _send_run(self, pieces: list[Any], first: int, addr: Any) -> int:
        """Sends some of the pieces, from `first` on; how many."""
        reader = self._reader
        if reader is not None and not self._buffer and not self._conn_lost:
            sent: int = reader.send_run(pieces, first, self._address if addr is None else addr)
            if sent:
                return sent
        self.sendto(pieces[first], addr)
        return 1

    def receive_in_batches(self, *, coalesce: bool = True) -> bool:
        """Says that no other code reads the socket, now or later; datagrams are taken in batches.

        coalesce: whether the kernel may keep several as one (UDP_GRO), which are split here.
        Returns whether it does.
        """
        reader = self._reader
        return reader is not None and not self._conn_lost and reader.own(True, coalesce)

    def _take_batches(self) -> None:
        """Lets it take batches if the program has not asked for the socket, which the loop made."""
        if self._reader is not None:
            self._reader.own(False, False)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """asyncio's; a program that asks for the socket may read it: no batches any more."""
        if name == "socket" and self._reader is not None:
            self._reader.share()
        return super().get_extra_info(name, default)
