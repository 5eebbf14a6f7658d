"""Servers on listeners that are given."""

import asyncio
import socket
from typing import Any

from .identity import BLOCK
from .operation import ASYNCIO, Bench, Operation
from .sock_calls import TCP_SHARE, Listening
from .sockets import tcp_listener, unix_listener
from .stream_transports import Ear


class GivenToServer(Listening):
    """A server, to which only its own clients may connect."""

    not_on = dict.fromkeys(
        ASYNCIO,
        "close() of a server whose listener is closed raises ValueError and leaves the number"
        " registered, so that what gets the number later waits for ever",
    )
    file: socket.socket
    server: asyncio.Server

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.file = self.listener()
        self.listens()
        self.ears: list[Ear] = []
        self.ended = False

    def listener(self) -> socket.socket:
        raise NotImplementedError

    def make_ear(self) -> Ear:
        self.ears.append(AcceptedEar(self))
        return self.ears[-1]

    async def start(self) -> Any:
        raise NotImplementedError

    def begin(self) -> asyncio.Future[Any]:
        return self.loop.create_task(self.started())

    async def started(self) -> None:
        self.server = await self.start()

    def in_flight(self) -> bool:
        return not self.ended

    def has_completed(self) -> bool:
        return any(ear.bytes_heard for ear in self.ears)  # type: ignore[attr-defined]

    def end(self, guest: bool) -> None:
        self.ended = True
        try:
            self.server.close()
        except ValueError:
            pass  # asyncio's error where the listener is closed
        for ear in self.ears:
            if ear.made:
                ear.transport.abort()

    def is_over(self) -> bool:
        for ear in self.ears:
            if ear.made and not ear.lost:
                ear.transport.abort()
        return all(ear.lost for ear in self.ears)


class AcceptedEar(Ear):
    """Of one connection of a server."""

    def __init__(self, operation: Operation) -> None:
        super().__init__(operation)
        self.bytes_heard = 0

    def hear(self, data: bytes | bytearray | memoryview) -> None:
        self.bytes_heard += len(data)
        if not (self.operation.block * (1 + len(data) // BLOCK)).startswith(bytes(data)):
            self.operation.faults.append("a server: a client of somebody else's")


class GivenToCreateServer(GivenToServer):
    kind = "create_server(sock=)"
    weight = 10

    def listener(self) -> socket.socket:
        return tcp_listener() if self.random.random() < TCP_SHARE else unix_listener()

    async def start(self) -> Any:
        return await self.loop.create_server(self.make_ear, sock=self.file)


class GivenToCreateUnixServer(GivenToServer):
    kind = "create_unix_server(sock=)"
    weight = 10

    def listener(self) -> socket.socket:
        return unix_listener()

    async def start(self) -> Any:
        return await self.loop.create_unix_server(self.make_ear, sock=self.file)


OPERATIONS: list[type[Operation]] = [GivenToCreateServer, GivenToCreateUnixServer]
