"""The loop's sock_* methods."""

import os
import socket
from collections.abc import Coroutine
from typing import Any

from .identity import BLOCK, unique_name
from .operation import Bench, Operation, TaskOperation
from .sockets import SMALL, client_of, discard, tcp_listener, unix_listener, unix_pair

TCP_SHARE = 0.06
SENT = 16 * 1024
SENT_BY_TCP = 256 * 1024
"""More than the buffers of both ends take."""


class StreamCall(TaskOperation):
    """One on a connected stream socket."""

    file: socket.socket
    peer: socket.socket

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.tcp = bench.random.random() < TCP_SHARE
        self.file, self.peer = bench.pairs.make() if self.tcp else unix_pair()


class SockRecv(StreamCall):
    kind = "sock_recv"
    weight = 60

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        return self.loop.sock_recv(self.file, 1000)

    def result(self, result: bytes) -> None:
        assert result, "an end that the peer has not made"
        self.heard.feed(result)


class SockRecvInto(StreamCall):
    kind = "sock_recv_into"
    weight = 30

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        self.buffer = bytearray(1000)
        return self.loop.sock_recv_into(self.file, self.buffer)

    def check(self, lost: bool) -> None:
        super().check(lost)
        if self.task.cancelled() or self.task.exception() is not None:
            assert not any(self.buffer), "data in the buffer of a call that has failed"

    def result(self, result: int) -> None:
        assert result, "an end that the peer has not made"
        self.heard.feed(self.buffer[:result])


class SockRecvFrom(TaskOperation):
    kind = "sock_recvfrom"
    weight = 15

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.file, self.peer = unix_pair(socket.SOCK_DGRAM)

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        assert isinstance(self.file, socket.socket)
        return self.loop.sock_recvfrom(self.file, 1000)

    def peer_sees_end(self) -> bool:
        assert self.peer is not None
        try:
            self.peer.send(self.block)
        except ConnectionError:
            return True
        return False

    def result(self, result: tuple[bytes, Any]) -> None:
        assert len(result[0]) == BLOCK, "no datagram of the peer's"
        self.heard.feed(result[0])


class SockRecvFromInto(SockRecvFrom):
    kind = "sock_recvfrom_into"
    weight = 10

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        assert isinstance(self.file, socket.socket)
        self.buffer = bytearray(1000)
        return self.loop.sock_recvfrom_into(self.file, self.buffer)

    def result(self, result: tuple[int, Any]) -> None:  # type: ignore[override]
        super().result((bytes(self.buffer[: result[0]]), None))


class Draining(Operation):
    """One that waits for its peer to read."""

    def speak(self) -> None:
        self.peer_sees_end()

    def has_completed(self) -> bool:
        self.speak()
        return super().has_completed()


class SockSendall(Draining, StreamCall):
    kind = "sock_sendall"
    weight = 40

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.file.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        size = SENT_BY_TCP if self.tcp else SENT
        return self.loop.sock_sendall(self.file, self.block * (size // BLOCK))

    def result(self, result: None) -> None:
        assert result is None


class SockSendto(TaskOperation):
    """To a peer whose queue is full."""

    kind = "sock_sendto"
    weight = 8
    file: socket.socket
    peer: socket.socket

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.file, self.peer = unix_pair(socket.SOCK_DGRAM)
        self.peer.bind(unique_name())
        self.address = self.peer.getsockname()
        try:
            while True:
                self.file.send(self.block)
        except BlockingIOError:
            pass

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        return self.loop.sock_sendto(self.file, self.block, self.address)

    def speak(self) -> None:
        try:
            while True:
                self.peer_heard.feed(self.peer.recv(1000))
        except (BlockingIOError, ConnectionError):
            pass

    def peer_sees_end(self) -> bool:
        self.speak()
        try:
            self.peer.send(self.block)
        except ConnectionError:
            return True
        return False

    def result(self, result: int) -> None:
        assert result == BLOCK


class Listening(Operation):
    """On a listener, whose peers are clients that come."""

    file: socket.socket

    def listens(self) -> None:
        self.family, self.address = self.file.family, self.file.getsockname()
        self.clients: list[socket.socket] = []

    def speak(self) -> None:
        try:
            client = client_of(self.family, self.address)
        except ConnectionError:
            return
        self.clients.append(client)
        try:
            client.send(self.block)
        except ConnectionError:
            pass

    def peer_sees_end(self) -> bool:
        before = len(self.clients)
        self.speak()
        return len(self.clients) == before

    def dispose(self) -> None:
        super().dispose()
        for client in self.clients:
            discard(client)


class SockAccept(Listening, TaskOperation):
    kind = "sock_accept"
    weight = 20
    file: socket.socket

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.file = tcp_listener() if bench.random.random() < TCP_SHARE else unix_listener()
        self.listens()

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        return self.loop.sock_accept(self.file)

    def result(self, result: tuple[socket.socket, Any]) -> None:
        connection, _ = result
        with connection:
            connection.settimeout(10)
            self.heard.feed(connection.recv(BLOCK))


class FullListener:
    """A listener at which new clients wait for a second or more."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.address = self.listener.getsockname()
        self.clients = [socket.socket() for _ in range(4)]
        for client in self.clients:
            client.setblocking(False)
            client.connect_ex(self.address)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.listener.close()


class SockConnect(TaskOperation):
    """To a listener whose queue is full."""

    kind = "sock_connect"
    weight = 20
    file: socket.socket

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.can_complete = False
        self.full = bench.once("full listener", FullListener, FullListener.close)
        self.file = socket.socket()
        self.file.setblocking(False)

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        return self.loop.sock_connect(self.file, self.full.address)

    def speak(self) -> None:
        """No accept comes."""

    def disturb(self, duplicate: int) -> None:
        with socket.socket(fileno=os.dup(duplicate)) as sock:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has not begun to connect

    def peer_sees_end(self) -> bool:
        return True  # there is no peer yet

    def result(self, result: None) -> None:
        raise AssertionError("connected to somebody else")


OPERATIONS: list[type[Operation]] = [
    SockRecv,
    SockRecvInto,
    SockRecvFrom,
    SockRecvFromInto,
    SockSendall,
    SockSendto,
    SockAccept,
    SockConnect,
]
