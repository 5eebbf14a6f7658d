"""TLS over sockets that are given: in the handshake, in start_tls, and established."""

import asyncio
import socket
import ssl
from collections.abc import Coroutine
from typing import Any

from tests.support.tls import new_authority

from .operation import Bench, Operation, TaskOperation
from .sockets import unix_pair
from .stream_transports import Ear, StreamTransport


class Contexts:
    """The SSL contexts of both ends of a connection."""

    def __init__(self) -> None:
        authority = new_authority()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


def contexts(bench: Bench) -> Contexts:
    made: Contexts = bench.once("TLS contexts", Contexts, lambda _: None)
    return made


class Handshake(TaskOperation):
    """One whose peer does not answer."""

    file: socket.socket
    peer: socket.socket

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.can_complete = False
        self.file, self.peer = unix_pair()
        self.ear = Ear(self)
        self.contexts = contexts(bench)

    def speak(self) -> None:
        """No reply comes."""

    def disturb(self, duplicate: int) -> None:
        self.peer.send(self.block)

    def peer_sees_end(self) -> bool:
        try:
            while self.peer.recv(65536):
                pass  # the first bytes of a handshake identify no sender
        except BlockingIOError:
            return False
        except ConnectionError:
            pass
        return True

    def result(self, result: Any) -> None:
        raise AssertionError("shook hands with somebody else")


class TlsHandshake(Handshake):
    kind = "create_connection(sock=, ssl=)"
    weight = 3

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        return self.loop.create_connection(
            lambda: self.ear,
            sock=self.file,
            ssl=self.contexts.client,
            server_hostname="localhost",
        )


class StartTls(Handshake):
    kind = "start_tls"
    weight = 3

    def begin(self) -> Any:
        return self.loop.create_task(self.connected())

    async def connected(self) -> None:
        self.transport, _ = await self.loop.create_connection(lambda: self.ear, sock=self.file)
        super().begin()

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        return self.loop.start_tls(
            self.transport, self.ear, self.contexts.client, server_hostname="localhost"
        )


class TlsTransport(StreamTransport):
    """Both ends are the loop's, but only one of them is lost."""

    kind = "TLS transport"
    weight = 1
    slow = True
    takes_tcp = False
    ended: asyncio.Transport

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.state, self.can_complete = "idle", False
        self.contexts = contexts(bench)
        self.peer_ear = PeerEar()

    async def connected(self) -> None:
        connecting = self.loop.create_connection(
            lambda: self.ear,
            sock=self.file,
            ssl=self.contexts.client,
            server_hostname="localhost",
        )
        accepting = self.loop.connect_accepted_socket(
            lambda: self.peer_ear, self.peer, ssl=self.contexts.server
        )
        (self.transport, _), (self.ended, _) = await asyncio.gather(connecting, accepting)

    def speak(self) -> None:
        self.ended.write(self.block)

    def peer_sees_end(self) -> bool:
        if self.peer.fileno() < 0:
            return True  # the peer's transport has seen it, and is closed
        try:
            self.peer.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except ConnectionError:
            pass
        return True

    def poke(self) -> None:
        self.transport.write(self.block)

    def end(self, guest: bool) -> None:
        self.transport.abort()
        self.ended.abort()

    def is_over(self) -> bool:
        return bool(self.ear.lost and self.peer_ear.lost)


class PeerEar(asyncio.Protocol):
    lost = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1


OPERATIONS: list[type[Operation]] = [TlsHandshake, StartTls, TlsTransport]
