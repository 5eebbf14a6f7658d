"""Read and write pipe transports."""

import asyncio
import io
import os
import socket
from typing import Any

from .identity import BLOCK
from .operation import ASYNCIO, Bench, Operation, is_bad_descriptor
from .owners import OwnedFile
from .sockets import SMALL, discard, unix_pair
from .stream_transports import Ear

BY_NUMBER = dict.fromkeys(ASYNCIO, "asyncio reads and writes pipes by number: strangers' too")


class PipeEnd:
    """The other end of a pipe, with the methods of a socket."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_blocking(fd, False)

    def send(self, data: bytes) -> int:
        return os.write(self.fd, data)

    def recv(self, size: int) -> bytes:
        return os.read(self.fd, size)

    def close(self) -> None:
        os.close(self.fd)


class PipeTransport(Operation):
    """On a pipe, or on a socket that is used as one."""

    not_on = BY_NUMBER
    peer: Any
    transport: Any

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.ear = Ear(self)
        self.file, self.peer = self.ends()

    def ends(self) -> tuple[OwnedFile, Any]:
        raise NotImplementedError

    async def connected(self) -> None:
        raise NotImplementedError

    def begin(self) -> asyncio.Future[Any]:
        return self.loop.create_task(self.connected())

    def in_flight(self) -> bool:
        return not self.ear.lost

    def check(self, lost: bool) -> None:
        super().check(lost)
        assert self.ear.lost == 1, f"connection_lost was called {self.ear.lost} times"
        error = self.ear.error
        assert error is None or (lost and is_bad_descriptor(error)), f"connection_lost: {error!r}"

    def dispose(self) -> None:
        if isinstance(self.file, socket.socket):
            discard(self.file)
        else:
            self.file.close()
        self.peer.close()


class ReadPipe(PipeTransport):
    kind = "connect_read_pipe"
    weight = 15

    def ends(self) -> tuple[OwnedFile, Any]:
        if self.random.random() < 0.3:
            return unix_pair()
        reading, writing = os.pipe()
        return io.FileIO(reading, "rb"), PipeEnd(writing)

    async def connected(self) -> None:
        self.transport, _ = await self.loop.connect_read_pipe(lambda: self.ear, self.file)
        if self.random.random() < 0.3:
            self.can_complete = False
            self.transport.pause_reading()

    def has_completed(self) -> bool:
        if not self.can_complete:
            self.transport.resume_reading()
        return self.heard.position >= BLOCK

    def peer_sees_end(self) -> bool:
        if isinstance(self.file, socket.socket):
            return super().peer_sees_end()
        try:
            self.peer.send(self.block)
        except BrokenPipeError:
            return True
        return False

    def poke(self) -> None:
        try:
            if self.random.random() < 0.5:
                self.transport.pause_reading()
            self.transport.resume_reading()
        except OSError as error:
            if not is_bad_descriptor(error):
                raise

    def end(self, guest: bool) -> None:
        self.transport.close()


class WritePipe(PipeTransport):
    kind = "connect_write_pipe"
    weight = 15

    def ends(self) -> tuple[OwnedFile, Any]:
        self.full = self.random.random() < 0.5
        self.can_complete = self.full
        if self.random.random() < 0.3:
            ends = unix_pair()
            ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
            return ends
        reading, writing = os.pipe()
        return io.FileIO(writing, "wb"), PipeEnd(reading)

    async def connected(self) -> None:
        self.transport, _ = await self.loop.connect_write_pipe(lambda: self.ear, self.file)
        if self.full:
            self.transport.write(self.block * 2048)

    def speak(self) -> None:
        self.peer_sees_end()

    def has_completed(self) -> bool:
        self.speak()
        return self.peer_heard.position == BLOCK * 2048

    def poke(self) -> None:
        self.transport.write(self.block)

    def end(self, guest: bool) -> None:
        self.transport.abort()


OPERATIONS: list[type[Operation]] = [ReadPipe, WritePipe]
