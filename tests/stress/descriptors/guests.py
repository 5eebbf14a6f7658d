"""The loop serves a stranger, under the number that an operation of its own has lost."""

import asyncio
import socket
from abc import ABC, abstractmethod
from typing import Any

from .identity import BLOCK, Heard
from .strangers import Stranger


class Guest(ABC):
    """Receives a stranger's data; nothing may be missing, whatever the lost operation does."""

    def __init__(self, loop: asyncio.AbstractEventLoop, number: int, stranger: Stranger) -> None:
        self.loop = loop
        self.sock = socket.socket(fileno=number)
        self.sock.setblocking(False)
        self.heard = Heard(stranger.block)
        self.faults: list[str] = []

    def hear(self, data: bytes) -> None:
        try:
            self.heard.feed(data)
        except AssertionError as error:
            self.faults.append(f"a guest: {error}")

    @abstractmethod
    async def begin(self) -> None:
        """Starts to listen."""

    def has_heard(self, blocks: int) -> bool:
        return self.heard.position >= blocks * BLOCK or bool(self.faults)

    async def end(self) -> None:
        """Ends, and closes the number."""
        self.sock.close()


class ReceivingGuest(Guest):
    kind = "sock_recv"

    async def begin(self) -> None:
        self.task = self.loop.create_task(self.receive())
        await asyncio.sleep(0)

    async def receive(self) -> None:
        while data := await self.loop.sock_recv(self.sock, 1000):
            self.hear(data)
        self.faults.append("a guest: an end")

    def has_heard(self, blocks: int) -> bool:
        return super().has_heard(blocks) or self.task.done()

    async def end(self) -> None:
        self.task.cancel()
        try:
            await self.task
        except asyncio.CancelledError:
            pass
        except OSError as error:
            self.faults.append(f"a guest: {error!r}")
        await super().end()


class WatchingGuest(Guest):
    kind = "add_reader"

    async def begin(self) -> None:
        self.loop.add_reader(self.sock, self.readable)

    def readable(self) -> None:
        try:
            self.hear(self.sock.recv(1000))
        except BlockingIOError:
            pass

    async def end(self) -> None:
        if not self.loop.remove_reader(self.sock):
            self.faults.append("a guest: somebody else has taken it off")
        await super().end()


class TransportGuest(Guest, asyncio.Protocol):
    kind = "transport"
    ended = False

    async def begin(self) -> None:
        self.lost: asyncio.Future[None] = self.loop.create_future()
        made: Any = await self.loop.create_connection(lambda: self, sock=self.sock)
        self.transport: asyncio.Transport = made[0]

    def data_received(self, data: bytes) -> None:
        self.hear(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended:
            self.faults.append(f"a guest: lost by {exc!r}")
        self.lost.set_result(None)

    async def end(self) -> None:
        self.ended = True
        self.transport.close()
        await self.lost


GUESTS: list[type[Guest]] = [ReceivingGuest, WatchingGuest, TransportGuest]
