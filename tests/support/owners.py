"""Numbers that go from one file to another while a loop waits."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

from tests.support.descriptors import stream_pair

TURNS = 8
"""Iterations in which all readiness is found: the ring, the epoll set, a task's step."""


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def take(number: int, stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """A new pair of sockets, the first of which has the number."""
    while True:
        pair = stream_pair()
        for sock in pair:
            stack.callback(sock.close)
        for ours, theirs in (pair, pair[::-1]):
            if ours.fileno() == number:
                return ours, theirs
        assert max(each.fileno() for each in pair) < number + 64, f"{number} is not free"


def received(sock: socket.socket) -> bytes | None:
    """The data to receive; None if there is none."""
    try:
        return sock.recv(1 << 16)
    except BlockingIOError:
        return None


def full(sock: socket.socket) -> None:
    try:
        while sock.send(b"\0" * 65536):
            pass
    except BlockingIOError:
        pass


Call = Callable[[Any, socket.socket], Awaitable[Any]]


WAITS: dict[str, Call] = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 100),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(100)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 100),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(100)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"a" * 3_000_000),
}
