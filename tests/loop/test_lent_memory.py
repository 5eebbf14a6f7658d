"""Memory that the loop passes to a program's code: a kept object does not change."""

import asyncio
import gc
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.support.loops import LOOPS, until
from tests.support.tls import TLS_VERSIONS, tls_contexts

import aiopoll
from aiopoll import AlignedBuffer

SIZE = 300_000
SECONDS_MAX = 30


class Keeping(ssl.SSLObject):
    """An SSLObject of a program's, which keeps all its arguments."""

    given: list[tuple[Any, bytes]]

    def write(self, data: Any) -> int:
        self.given.append((data, bytes(data)))
        return super().write(data)

    def read(self, len: int = 1024, buffer: bytearray | None = None) -> Any:
        if buffer is None:
            return super().read(len)
        count = super().read(len, buffer)
        assert isinstance(count, int)
        self.given.append((memoryview(buffer)[:count], bytes(memoryview(buffer)[:count])))
        return count


class Client(asyncio.Protocol):
    """Sends a lot, and gets it back."""

    def __init__(self) -> None:
        self.size = 0
        self.all = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.count(len(data))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.all.done():
            self.all.set_result(None)

    def count(self, size: int) -> None:
        self.size += size
        if self.size >= SIZE and not self.all.done():
            self.all.set_result(None)


class BufferedClient(Client, asyncio.BufferedProtocol):
    def get_buffer(self, hint: int) -> Any:
        self.buffer = bytearray(5000)  # a new one each time: the data read stays in it
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.count(count)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@contextmanager
def kept_by(context: ssl.SSLContext) -> Iterator[list[tuple[Any, bytes]]]:
    """The arguments of the SSLObjects of `context`, and their bytes at that time."""
    given: list[tuple[Any, bytes]] = []
    context.sslobject_class = type("Keeping", (Keeping,), {"given": given})
    try:
        yield given
    finally:
        context.sslobject_class = ssl.SSLObject


async def talk(client_class: type[Client], version: str) -> None:
    server_context, client_context = tls_contexts(version)
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    for sock in ours, theirs:
        sock.setblocking(False)

    def server_protocol() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), echo)

    client = client_class()
    (server, _), (transport, _) = await asyncio.gather(
        loop.connect_accepted_socket(server_protocol, theirs, ssl=server_context),
        loop.create_connection(
            lambda: client, sock=ours, ssl=client_context, server_hostname="localhost"
        ),
    )
    try:
        transport.write(bytes([83]) * 1000)
        transport.write(bytearray([83]) * 20_000)
        transport.write(bytes([83]) * (SIZE - 21_000))
        await asyncio.wait_for(client.all, SECONDS_MAX)
    finally:
        transport.abort()
        server.abort()


@pytest.mark.parametrize("kind", ["aio", "epoll", "asyncio"])
@pytest.mark.parametrize("version", TLS_VERSIONS)
@pytest.mark.parametrize("client_class", [Client, BufferedClient])
def test_ssl_object_may_keep_its_arguments(
    client_class: type[Client], version: str, kind: str
) -> None:
    with kept_by(tls_contexts(version)[1]) as given:
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            runner.run(talk(client_class, version))
        gc.collect()
        other = [b"J" * SIZE for _ in range(8)]  # takes memory that has become free
        assert sum(len(was) for _, was in given) >= SIZE
        for data, was in given:
            assert bytes(data) == was
            assert type(data) in (bytes, bytearray, memoryview)
        del other


def test_replaced_calls_of_ssl_object_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    plain = ssl.SSLObject.write

    def write(self: ssl.SSLObject, data: Any) -> int:
        written.append(plain(self, data))
        return written[-1]

    monkeypatch.setattr(ssl.SSLObject, "write", write)
    aiopoll.run(talk(Client, "1.3"))
    assert sum(written) >= 2 * SIZE  # the client's, and the echo


class Odd(ssl.SSLObject):
    """Returns once a value that no SSLObject should."""

    answers: dict[str, Any]

    def read(self, *arguments: Any) -> Any:
        return self.answers.pop("read") if "read" in self.answers else super().read(*arguments)

    def write(self, data: Any) -> Any:
        return self.answers.pop("write") if "write" in self.answers else super().write(data)


@pytest.mark.parametrize("client_class", [Client, BufferedClient])
@pytest.mark.parametrize("read_answer", [None, b"", bytearray(b"ab"), -(2**60), 2**60, "text"])
@pytest.mark.parametrize("write_answer", [None, -5, 2**60, "text"])
def test_odd_results_of_ssl_object_harm_its_stream_alone(
    read_answer: Any, write_answer: Any, client_class: type[Client]
) -> None:
    """The fate of the connection is not checked; the process and its memory stay intact."""
    context = tls_contexts("1.3")[1]

    answers = {"read": read_answer, "write": write_answer}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        talking = asyncio.create_task(talk(client_class, "1.3"))
        await asyncio.wait_for(until(lambda: not answers or talking.done()), SECONDS_MAX)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)

    context.sslobject_class = type("Answering", (Odd,), {"answers": answers})
    try:
        aiopoll.run(main())
    finally:
        context.sslobject_class = ssl.SSLObject
    assert len(answers) < 2


def test_a_view_keeps_an_aligned_buffer() -> None:
    buffer = AlignedBuffer(1 << 20)
    buffer[:4] = b"kept"
    view = memoryview(buffer)[:4]
    del buffer
    gc.collect()
    others = [AlignedBuffer(1 << 20) for _ in range(8)]
    for other in others:
        other[:4] = b"else"
    assert bytes(view) == b"kept"
