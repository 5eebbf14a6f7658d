"""Pairs of sockets and listeners, made cheaply and in great number."""

import socket
import struct

from .identity import next_number, unique_name

NO_TIME_WAIT = struct.pack("ii", 1, 0)
SMALL = 4608
"""A send buffer that takes one block of some KiB."""


class TcpPairs:
    """Makes connected TCP sockets over one listener."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def make(self) -> tuple[socket.socket, socket.socket]:
        """Two sockets that do not block."""
        client = socket.create_connection(self.listener.getsockname())
        server, _ = self.listener.accept()
        client.setblocking(False)
        server.setblocking(False)
        return client, server

    def close(self) -> None:
        self.listener.close()


def unix_pair(kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    """Two sockets that do not block."""
    return socket.socketpair(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)


def unix_listener() -> socket.socket:
    """A listener at an address that is never used again."""
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    listener.bind(unique_name())
    listener.listen(8)
    return listener


def tcp_listener() -> socket.socket:
    """The same; 127.0.0.0/8 has an address for each."""
    number = next_number()
    address = f"127.{number >> 14 & 127 | 1}.{number >> 7 & 127}.{number & 127 | 1}"
    listener = socket.create_server((address, 0), backlog=8)
    listener.setblocking(False)
    return listener


def client_of(family: int, address: object) -> socket.socket:
    """A socket that is connected at once; raises ConnectionRefusedError without a listener."""
    client = socket.socket(family)
    try:
        client.connect(address)  # type: ignore[arg-type]
    except BaseException:
        client.close()
        raise
    client.setblocking(False)
    return client


def discard(sock: socket.socket) -> None:
    """Closes; TCP does not keep the port."""
    if sock.fileno() >= 0 and sock.family == socket.AF_INET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_TIME_WAIT)
    sock.close()


def fill(sock: socket.socket, block: bytes) -> int:
    """Sends whole or broken blocks until the buffer is full; returns the number of bytes."""
    chunk = block * 16
    sent = 0
    try:
        while True:
            at = sent % len(block)
            sent += sock.send(chunk[at:])
    except BlockingIOError:
        return sent
