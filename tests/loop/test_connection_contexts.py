"""The context of a connection: what its protocol's methods see is what asyncio lets them see.

asyncio's own loop on the running Python is the oracle: up to 3.14 a server's connections have the
context that it was started in, from 3.15 on that of the code that made it.
"""

import asyncio
import contextvars
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import signature
from typing import Any

import pytest
from tests.support.loops import LOOPS, OURS, until

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="nobody's")
SECONDS_MAX = 30


class Noting(asyncio.Protocol):
    """Echoes each message, and notes which context each method sees."""

    transport: Any

    def __init__(self, seen: list[tuple[str, str]]) -> None:
        self.seen = seen
        self.lost = asyncio.get_running_loop().create_future()
        self.note("factory")

    def note(self, call: str) -> None:
        self.seen.append((call, NAME.get()))

    def connection_made(self, transport: Any) -> None:
        self.note("made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.note("data")
        self.transport.write(data)

    def eof_received(self) -> None:
        self.note("eof")

    def connection_lost(self, error: Exception | None) -> None:
        self.note("lost")
        self.lost.set_result(None)


class OwnAccept(socket.socket):
    """A listener that asyncio itself has to serve."""

    def accept(self) -> tuple[socket.socket, Any]:
        return super().accept()


@contextmanager
def own_socket() -> Iterator[None]:
    """From here on asyncio itself has to serve every listener."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", OwnAccept)
        yield


LISTENERS: dict[str, tuple[type[socket.socket], Callable[[], AbstractContextManager[None]]]] = {
    "plain": (socket.socket, nullcontext),
    "own-accept": (OwnAccept, nullcontext),
    "own-accept-later": (socket.socket, own_socket),
}


async def serve_two(
    listener: str, server_context: ssl.SSLContext | None, client_context: ssl.SSLContext | None
) -> list[tuple[str, str]]:
    """What the methods of two connections see; the server is made, started and used apart."""
    loop = asyncio.get_running_loop()
    socket_class, later = LISTENERS[listener]
    sock = socket_class(socket.AF_INET)
    sock.bind(("127.0.0.1", 0))
    seen: list[tuple[str, str]] = []
    protocols: list[Noting] = []

    def factory() -> Noting:
        protocols.append(Noting(seen))
        return protocols[-1]

    NAME.set("the maker's")
    server = await loop.create_server(factory, sock=sock, ssl=server_context, start_serving=False)
    NAME.set("the starter's")
    await server.start_serving()
    NAME.set("the client's")
    with later():
        for number in range(2):
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(),
                ssl=client_context,
                server_hostname="localhost" if client_context else None,
            )
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            writer.close()
            await until(lambda: len(protocols) > number)  # noqa: B023
            await protocols[number].lost
    server.close()
    return seen


def on(kind: str, main: Callable[[], Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(main(), SECONDS_MAX)

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        return runner.run(bounded())


@pytest.mark.parametrize("over_tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("kind", OURS)
def test_accepted_connections_have_the_context_of_asyncio(
    kind: str,
    listener: str,
    over_tls: bool,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    contexts = (server_context, client_context) if over_tls else (None, None)
    seen = on(kind, lambda: serve_two(listener, *contexts))
    calls = [call for call, _ in seen]
    assert calls == ["factory", "made", "data", "eof", "lost"] * 2
    assert seen == on("asyncio", lambda: serve_two(listener, *contexts))


async def pause_and_resume() -> list[tuple[str, str]]:
    """What a connection's methods see after another context has paused and resumed it."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    seen: list[tuple[str, str]] = []
    with theirs:
        NAME.set("the maker's")
        _, protocol = await loop.create_connection(lambda: Noting(seen), sock=ours)
        NAME.set("another's")
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()
        theirs.send(b"hello")
        await until(lambda: seen[-1][0] == "data")
        assert theirs.recv(10) == b"hello"
    await protocol.lost
    return seen


@pytest.mark.parametrize("kind", OURS)
def test_a_resumed_connection_keeps_its_context(kind: str) -> None:
    """As with asyncio from 3.15 on; before, what was read had the resumer's."""
    seen = on(kind, pause_and_resume)
    assert seen == [(call, "the maker's") for call in ("factory", "made", "data", "eof", "lost")]
    if "context" in signature(asyncio.SelectorEventLoop._add_reader).parameters:  # type: ignore[attr-defined]
        assert on("asyncio", pause_and_resume) == seen
