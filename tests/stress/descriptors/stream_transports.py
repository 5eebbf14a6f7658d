"""Stream transports on sockets that are given."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

from .identity import BLOCK
from .operation import Bench, Operation, is_bad_descriptor
from .sock_calls import SENT, SENT_BY_TCP, TCP_SHARE
from .sockets import SMALL, unix_pair

STATES = {False: ("idle", "idle", "full", "paused"), True: ("idle", "paused")}
"""asyncio waits to read and to write under a number, and fails where it then stops one of them: the
kernel does not know the number's new file."""


class Ear(asyncio.Protocol):
    """Compares received data with the data its operation may get."""

    transport: asyncio.Transport

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.made = self.lost = 0
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made += 1
        self.transport = transport  # type: ignore[assignment]

    def hear(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self.operation.heard.feed(data)
        except AssertionError as error:
            self.operation.faults.append(f"a transport: {error}")

    def data_received(self, data: bytes) -> None:
        self.hear(data)

    def eof_received(self) -> None:
        self.operation.faults.append("a transport: an end that the peer has not made")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1
        self.error = exc


class BufferedEar(Ear, asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    def __init__(self, operation: Operation) -> None:
        super().__init__(operation)
        self.buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.hear(self.buffer[:nbytes])


class StreamTransport(Operation):
    """Idle, paused, or with a full buffer."""

    file: socket.socket
    peer: socket.socket
    transport: asyncio.Transport

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.tcp = bench.random.random() < TCP_SHARE and self.takes_tcp
        self.file, self.peer = bench.pairs.make() if self.tcp else unix_pair()
        self.ear = bench.random.choice((Ear, BufferedEar))(self)
        self.state = bench.random.choice(STATES[bench.asyncios])
        self.can_complete = self.state == "idle"

    takes_tcp = True

    def connect(self) -> Coroutine[Any, Any, Any]:
        raise NotImplementedError

    def begin(self) -> asyncio.Future[Any]:
        return self.loop.create_task(self.connected())

    async def connected(self) -> None:
        self.transport, _ = await self.connect()
        if self.state == "paused":
            self.transport.pause_reading()
        elif self.state == "full":
            self.file.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
            size = SENT_BY_TCP if self.tcp else SENT
            self.transport.write(self.block * (size // BLOCK))

    def in_flight(self) -> bool:
        return not self.ear.lost

    def speak(self) -> None:
        if self.state == "full":
            self.peer_sees_end()
        super().speak()

    def has_completed(self) -> bool:
        return self.heard.position >= BLOCK

    def poke(self) -> None:
        # asyncio's other methods register the number that is a stranger's now.
        action = 0 if self.bench.asyncios else self.random.randrange(6)
        if action < 3:
            self.transport.write(self.block * 4)
            return
        try:
            if action == 3:
                self.transport.resume_reading()
            elif action == 4:
                self.transport.pause_reading()
            else:
                self.transport.write_eof()
        except OSError as error:
            if not is_bad_descriptor(error):
                raise

    def end(self, guest: bool) -> None:
        if self.state == "full" or self.random.random() < 0.5:
            self.transport.abort()
        else:
            self.transport.close()

    def is_over(self) -> bool:
        if self.ear.lost:
            return True
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.transport.abort()  # close() waits for a peer that does not read
        return False

    def check(self, lost: bool) -> None:
        super().check(lost)
        assert self.ear.lost == 1, f"connection_lost was called {self.ear.lost} times"
        error = self.ear.error
        assert error is None or (lost and is_bad_descriptor(error)), f"connection_lost: {error!r}"


class GivenToCreateConnection(StreamTransport):
    kind = "create_connection(sock=)"
    weight = 20

    def connect(self) -> Coroutine[Any, Any, Any]:
        return self.loop.create_connection(lambda: self.ear, sock=self.file)


class GivenToCreateUnixConnection(StreamTransport):
    kind = "create_unix_connection(sock=)"
    weight = 12
    takes_tcp = False

    def connect(self) -> Coroutine[Any, Any, Any]:
        return self.loop.create_unix_connection(lambda: self.ear, sock=self.file)


class GivenToConnectAcceptedSocket(StreamTransport):
    kind = "connect_accepted_socket"
    weight = 12

    def connect(self) -> Coroutine[Any, Any, Any]:
        return self.loop.connect_accepted_socket(lambda: self.ear, self.file)


OPERATIONS: list[type[Operation]] = [
    GivenToCreateConnection,
    GivenToCreateUnixConnection,
    GivenToConnectAcceptedSocket,
]
