"""Datagram transports on sockets that are given."""

import asyncio
import socket
from typing import Any

from .identity import BLOCK, unique_name
from .operation import Bench, Operation, is_bad_descriptor
from .sockets import unix_pair


class DatagramTransport(Operation):
    """Idle, or with a peer whose queue is full."""

    kind = "create_datagram_endpoint(sock=)"
    weight = 15
    file: socket.socket
    peer: socket.socket
    transport: asyncio.DatagramTransport

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.file, self.peer = unix_pair(socket.SOCK_DGRAM)
        self.peer.bind(unique_name())  # asyncio sends to a peer that has a name only
        self.ear = DatagramEar(self)
        # asyncio, which waits for both directions by number, fails where it stops one of them.
        self.full = not bench.asyncios and bench.random.random() < 0.3
        self.can_complete = not self.full
        self.pokes = 0

    def begin(self) -> asyncio.Future[Any]:
        return self.loop.create_task(self.connected())

    async def connected(self) -> None:
        self.transport, _ = await self.loop.create_datagram_endpoint(
            lambda: self.ear, sock=self.file
        )
        if self.full:
            for _ in range(20):
                self.transport.sendto(self.block)

    def in_flight(self) -> bool:
        return not self.ear.lost

    def speak(self) -> None:
        try:
            while True:
                self.peer_heard.feed(self.peer.recv(1000))
        except (BlockingIOError, ConnectionError):
            pass
        super().speak()

    def peer_sees_end(self) -> bool:
        try:
            self.peer.send(self.block)
        except ConnectionError:
            return True
        return False

    def has_completed(self) -> bool:
        return self.heard.position >= BLOCK

    def poke(self) -> None:
        self.pokes += 1
        self.transport.sendto(self.block)

    def end(self, guest: bool) -> None:
        self.transport.abort()

    def check(self, lost: bool) -> None:
        super().check(lost)
        assert self.ear.lost == 1, f"connection_lost was called {self.ear.lost} times"
        for error in [*self.ear.errors, self.ear.error]:
            if error is not None and not (lost and is_bad_descriptor(error)):
                raise AssertionError(f"an error was reported: {error!r}")
        if not self.bench.asyncios:  # which reports it again as long as a duplicate is ready
            assert len(self.ear.errors) <= 1 + self.pokes, "the loss was reported again and again"


class DatagramEar(asyncio.DatagramProtocol):
    """Compares received data with the data its operation may get."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.lost = 0
        self.errors: list[Exception] = []
        self.error: Exception | None = None

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            assert len(data) == BLOCK, "no datagram of the peer's"
            self.operation.heard.feed(data)
        except AssertionError as error:
            self.operation.faults.append(f"a datagram transport: {error}")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1
        self.error = exc


OPERATIONS: list[type[Operation]] = [DatagramTransport]
