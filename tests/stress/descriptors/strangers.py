"""Files of another owner, which get the number that an operation of the loop has been given.

Each checks the data it must get and must not get, and is reused after a passed check.
"""

import errno
import os
import select
import socket
import tempfile
from abc import ABC, abstractmethod
from typing import ClassVar

from .identity import BLOCK, new_block
from .sockets import TcpPairs, client_of, discard, tcp_listener, unix_listener, unix_pair

PATIENCE_MS = 2000
NOBODY = ("127.255.255.254", 1)
"""Not a port that the kernel assigns: a socket with that port of its own would connect to
itself."""


def nothing(sock: socket.socket) -> bool:
    """Whether there is nothing to receive, not even an end."""
    try:
        sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
    except BlockingIOError:
        return True
    return False


def readable(fd: int, patience_ms: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(patience_ms))


class Stranger(ABC):
    """A file of another owner."""

    kind: ClassVar[str]
    takes_guests: ClassVar[bool] = False
    """Whether the loop may serve it too: then the guest receives the block of `speak`."""

    def __init__(self, blocking: bool) -> None:
        self.block = new_block()
        self.blocking = blocking
        self.spoken = 0

    @property
    @abstractmethod
    def fd(self) -> int:
        """The file's own number, of which others are duplicates."""

    @abstractmethod
    def speak(self) -> None:
        """Lets one block come to the file, where it can receive."""

    @abstractmethod
    def check(self) -> None:
        """Takes the received data; raises AssertionError if a byte is missing or too many."""

    @abstractmethod
    def close(self) -> None:
        """Releases the file."""


class SocketStranger(Stranger):
    """One end of a connection."""

    patience_ms = 0

    def __init__(self, blocking: bool, ends: tuple[socket.socket, socket.socket]) -> None:
        super().__init__(blocking)
        self.inside, self.outside = ends
        self.inside.setblocking(blocking)

    @property
    def fd(self) -> int:
        return self.inside.fileno()

    def speak(self) -> None:
        self.outside.send(self.block)
        self.spoken += 1

    def receive(self) -> bytes:
        try:
            return self.inside.recv(8 * BLOCK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            if self.patience_ms and readable(self.fd, self.patience_ms):
                return self.receive()
            return b""

    def check(self) -> None:
        due = self.spoken * self.block
        self.spoken = 0
        while due:
            data = self.receive()
            assert data, "a stranger has lost data"
            assert due.startswith(data), "a stranger got foreign data"
            due = due[len(data) :]
        assert nothing(self.inside), "a stranger got more than was sent to it"
        assert nothing(self.outside), "a stranger's peer got data"

    def close(self) -> None:
        discard(self.inside)
        discard(self.outside)


class UnixStranger(SocketStranger):
    kind = "unix"
    takes_guests = True

    def __init__(self, blocking: bool) -> None:
        super().__init__(blocking, unix_pair())


class TcpStranger(SocketStranger):
    kind = "tcp"
    takes_guests = True
    patience_ms = PATIENCE_MS
    pairs: ClassVar[TcpPairs]

    def __init__(self, blocking: bool) -> None:
        super().__init__(blocking, self.pairs.make())


class DatagramStranger(SocketStranger):
    kind = "datagram"

    def __init__(self, blocking: bool) -> None:
        super().__init__(blocking, unix_pair(socket.SOCK_DGRAM))


class ListenerStranger(Stranger):
    """A listener, whose clients send their identity."""

    def __init__(self, blocking: bool, listener: socket.socket) -> None:
        super().__init__(blocking)
        self.listener = listener
        self.address = listener.getsockname()
        listener.setblocking(blocking)
        self.clients: list[socket.socket] = []

    @property
    def fd(self) -> int:
        return self.listener.fileno()

    def speak(self) -> None:
        client = client_of(self.listener.family, self.address)
        client.send(self.block)
        self.clients.append(client)

    def check(self) -> None:
        clients, self.clients = self.clients, []
        try:
            for client in clients:
                assert readable(self.fd, PATIENCE_MS), "a stranger's client was taken"
                connection, _ = self.listener.accept()
                with connection:
                    connection.settimeout(PATIENCE_MS / 1000)
                    assert connection.recv(BLOCK) == self.block, "a stranger's client was another's"
                    assert nothing(client), "a stranger's client got data"
            assert not readable(self.fd, 0), "a stranger got more clients than it has"
        finally:
            for client in clients:
                discard(client)

    def close(self) -> None:
        for client in self.clients:
            discard(client)
        self.listener.close()


class UnixListenerStranger(ListenerStranger):
    kind = "unix listener"

    def __init__(self, blocking: bool) -> None:
        super().__init__(blocking, unix_listener())


class TcpListenerStranger(ListenerStranger):
    kind = "tcp listener"

    def __init__(self, blocking: bool) -> None:
        super().__init__(blocking, tcp_listener())


class PipeStranger(Stranger):
    """One end of a pipe."""

    def __init__(self, blocking: bool) -> None:
        super().__init__(blocking)
        self.reading, self.writing = os.pipe()

    def check(self) -> None:
        due = self.spoken * self.block
        self.spoken = 0
        os.set_blocking(self.reading, False)
        try:
            data = os.read(self.reading, 8 * BLOCK)
        except BlockingIOError:
            data = b""
        os.set_blocking(self.reading, self.blocking)
        assert len(data) >= len(due), "a stranger's pipe has lost data"
        assert data == due, "a stranger's pipe got foreign data"

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


class ReadPipeStranger(PipeStranger):
    kind = "pipe for reading"

    def __init__(self, blocking: bool) -> None:
        super().__init__(blocking)
        os.set_blocking(self.reading, blocking)

    @property
    def fd(self) -> int:
        return self.reading

    def speak(self) -> None:
        os.write(self.writing, self.block)
        self.spoken += 1


class WritePipeStranger(PipeStranger):
    kind = "pipe for writing"

    def __init__(self, blocking: bool) -> None:
        super().__init__(blocking)
        os.set_blocking(self.writing, blocking)

    @property
    def fd(self) -> int:
        return self.writing

    def speak(self) -> None:
        """Nothing may come."""


class FailedStranger(Stranger):
    """A refused connection: its owner has yet to ask for the error, which is reported once."""

    kind = "failed connection"

    def __init__(self, blocking: bool) -> None:
        super().__init__(blocking)
        self.sock = self.attempt()

    def attempt(self) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            sock.connect(NOBODY)
        except BlockingIOError:
            pass
        except ConnectionRefusedError:  # reported already: a signal has come in between
            sock.close()
            return self.attempt()
        return sock

    @property
    def fd(self) -> int:
        return self.sock.fileno()

    def speak(self) -> None:
        assert readable(self.fd, PATIENCE_MS)

    def check(self) -> None:
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.sock.close()
        self.sock = self.attempt()
        assert code == errno.ECONNREFUSED, "a stranger's error was taken"

    def close(self) -> None:
        self.sock.close()


class RegularStranger(Stranger):
    """A regular file, with its position."""

    kind = "regular file"
    size = 16 * 1024

    def __init__(self, blocking: bool) -> None:
        super().__init__(blocking)
        self.content = self.block * (self.size // BLOCK)
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self.file.write(self.content)
        self.file.seek(BLOCK)

    @property
    def fd(self) -> int:
        return self.file.fileno()

    def speak(self) -> None:
        """It has its content."""

    def check(self) -> None:
        position = self.file.tell()
        self.file.seek(0)
        content = self.file.read()
        self.file.seek(BLOCK)
        assert content == self.content, "a stranger's file was written to"
        assert position == BLOCK, "a stranger's file was read or written"

    def close(self) -> None:
        self.file.close()


WEIGHTS: dict[type[Stranger], int] = {
    UnixStranger: 60,
    TcpStranger: 12,
    DatagramStranger: 6,
    UnixListenerStranger: 6,
    TcpListenerStranger: 2,
    ReadPipeStranger: 8,
    WritePipeStranger: 8,
    FailedStranger: 3,
    RegularStranger: 4,
}


class Strangers:
    """Lends strangers, and keeps those that were found unharmed for the next one."""

    def __init__(self) -> None:
        self.pairs = TcpStranger.pairs = TcpPairs()
        self.idle: dict[type[Stranger], dict[bool, list[Stranger]]] = {
            kind: {False: [], True: []} for kind in WEIGHTS
        }

    def lend(self, kind: type[Stranger], blocking: bool) -> Stranger:
        idle = self.idle[kind][blocking]
        return idle.pop() if idle else kind(blocking)

    def give_back(self, stranger: Stranger) -> None:
        """After check(): one that was harmed is to be closed instead."""
        self.idle[type(stranger)][stranger.blocking].append(stranger)

    def close(self) -> None:
        for kept in self.idle.values():
            for strangers in kept.values():
                for stranger in strangers:
                    stranger.close()
        self.idle.clear()
        self.pairs.close()
