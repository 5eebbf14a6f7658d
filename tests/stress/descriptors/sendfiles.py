"""sendfile, which has two files to lose."""

import io
import os
import socket
from collections.abc import Coroutine
from typing import Any

from .identity import BLOCK
from .operation import ASYNCIO, Bench, Operation, TaskOperation, is_bad_descriptor
from .sock_calls import SENT
from .sockets import SMALL, discard, unix_pair
from .stream_transports import Ear


class Sendfile(TaskOperation):
    """Of more than the socket takes at once."""

    weight = 5
    loses_source = False

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.sock, self.peer = unix_pair()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        self.source = io.FileIO(os.memfd_create("source"), "r+b")
        self.source.write(self.block * (SENT // BLOCK))
        self.source.seek(0)
        self.file = self.source if self.loses_source else self.sock

    def speak(self) -> None:
        super().peer_sees_end()

    def has_completed(self) -> bool:
        self.speak()
        return super().has_completed()

    def peer_sees_end(self) -> bool:
        return super().peer_sees_end() or self.loses_source

    def check(self, lost: bool) -> None:
        self.speak()
        if lost and not self.task.cancelled() and isinstance(self.task.exception(), ValueError):
            return  # the error of a closed file object
        super().check(lost)

    def result(self, result: int) -> None:
        assert result == SENT, f"{result} bytes are said to be sent"

    def dispose(self) -> None:
        super().dispose()
        discard(self.sock)
        self.source.close()


class SockSendfile(Sendfile):
    kind = "sock_sendfile"
    not_on = dict.fromkeys(ASYNCIO, "asyncio leaves the number registered where it has failed")

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        return self.loop.sock_sendfile(self.sock, self.source)


class SockSendfileSource(SockSendfile):
    kind = "sock_sendfile, of its source"
    not_on = dict.fromkeys(ASYNCIO, "asyncio sends from a number: from a stranger's file too")
    loses_source = True


class TransportSendfile(Sendfile):
    kind = "sendfile"
    not_on = dict.fromkeys(ASYNCIO, "asyncio stops waiting by number where it has failed")

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.ear = Ear(self)

    def begin(self) -> Any:
        return self.loop.create_task(self.connected())

    async def connected(self) -> None:
        await self.loop.create_connection(lambda: self.ear, sock=self.sock)
        super().begin()

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        return self.loop.sendfile(self.ear.transport, self.source)

    def end(self, guest: bool) -> None:
        super().end(guest)
        self.ear.transport.abort()

    def is_over(self) -> bool:
        return super().is_over() and self.ear.lost > 0

    def check(self, lost: bool) -> None:
        super().check(lost)
        error = self.ear.error
        assert error is None or (lost and is_bad_descriptor(error)), f"connection_lost: {error!r}"


class TransportSendfileSource(TransportSendfile):
    kind = "sendfile, of its source"
    loses_source = True


OPERATIONS: list[type[Operation]] = [
    SockSendfile,
    SockSendfileSource,
    TransportSendfile,
    TransportSendfileSource,
]
