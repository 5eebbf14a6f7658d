"""Buffers made in Python: exceptions of their code propagate, and its effects come first."""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import LOOPS, until
from tests.support.tls import tls_contexts

import aiopoll

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="skips.toml: buffers made in Python"
)
SECONDS_MAX = 30
KINDS = ["aio", "epoll", "asyncio"]


class Acting(bytearray):
    """Calls a function, once, when its memory is exported."""

    act: Callable[[], object] | None = None

    def __buffer__(self, flags: int) -> memoryview:
        act, self.act = self.act, None
        if act is not None:
            act()
        return super().__buffer__(flags)  # type: ignore[misc, no-any-return]


def acting(data: bytes, act: Callable[[], object]) -> Acting:
    buffer = Acting(data)
    buffer.act = act
    return buffer


def raising(error: BaseException) -> Acting:
    def act() -> None:
        raise error

    return acting(bytes(100), act)


class Buffered(asyncio.BufferedProtocol):
    """Lends a buffer that raises, once the connection is there."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.armed = False
        self.lost: list[Exception | None] = []

    def get_buffer(self, sizehint: int) -> Any:
        return raising(self.error) if self.armed else bytearray(100)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


async def reading(protocol: Buffered, tls: bool) -> None:
    """A connection whose other side has written something."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    server, client = tls_contexts()
    options: dict[str, Any] = {"ssl": client, "server_hostname": "localhost"} if tls else {}
    (peer, _), (transport, _) = await asyncio.gather(
        loop.connect_accepted_socket(asyncio.Protocol, theirs, ssl=server if tls else None),
        loop.create_connection(lambda: protocol, sock=ours, **options),
    )
    protocol.armed = True
    peer.write(b"x")
    try:
        await until(lambda: protocol.lost)
    finally:
        transport.abort()
        peer.abort()
        await asyncio.sleep(0)


# Not as asyncio: recv_into() raises TypeError for any exception of a buffer.
@pytest.mark.parametrize("kind", ["aio", "epoll"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exception_that_must_end_the_loop_does(
    error: type[BaseException], tls: bool, kind: str
) -> None:
    with pytest.raises(error), asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(asyncio.wait_for(reading(Buffered(error("by the buffer")), tls), SECONDS_MAX))


@pytest.mark.parametrize("kind", ["aio", "epoll"])
def test_other_errors_end_the_connection(kind: str) -> None:
    error = ValueError("by the buffer")
    protocol = Buffered(error)

    async def main() -> None:
        told: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        await asyncio.wait_for(reading(protocol, False), SECONDS_MAX)
        assert told == [error]

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(main())
    assert protocol.lost == [error]


def everything(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(fd, size)
        assert piece
        data += piece
    return data


@pytest.mark.parametrize("way", ["socket", "pipe"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_write_within_a_write_comes_first(kind: str, way: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport: Any
        if way == "pipe":
            fd, writer = os.pipe()
            transport, _ = await loop.connect_write_pipe(
                asyncio.Protocol, os.fdopen(writer, "wb", 0)
            )
        else:
            ours, theirs = socket.socketpair()
            fd = theirs.detach()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        large = b"large" * 200_000

        def inner_and_room() -> None:
            """More data than there is room for; then room is made, with the rest still waiting."""
            transport.write(large)
            assert transport.get_write_buffer_size()
            taken.append(os.read(fd, 5_000_000))

        taken: list[bytes] = []
        transport.write(acting(b"outer", lambda: transport.write(b"inner")))
        assert os.read(fd, 10) == b"innerouter"
        if kind != "asyncio":  # asyncio's sends it before the rest
            transport.write(acting(b"outer", inner_and_room))
            rest = len(large) + 5 - len(taken[0])
            read = loop.run_in_executor(None, everything, fd, rest)
            assert taken[0] + await asyncio.wait_for(read, SECONDS_MAX) == large + b"outer"
        transport.abort()
        os.close(fd)
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(main())


@pytest.mark.parametrize("mode", ["w+b", "a+b"])
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_an_append_within_an_append_comes_first(tmp_path: Path, mode: str, several: bool) -> None:
    async def main() -> None:
        inner: list[Any] = []
        async with aiopoll.open(tmp_path / "log", mode) as file:
            await file.append(b"head")
            outer = acting(b"OUTER", lambda: inner.append(file.append(b"within")))
            offset = await file.append([b"[", outer, b"]"] if several else outer)
            assert await inner[0] == 4
            assert offset == 10
            size = 17 if several else 15
            assert file.append_offset == size
            whole = b"headwithin[OUTER]" if several else b"headwithinOUTER"
            assert await file.pread(100, 0) == whole

    aiopoll.run(main())


@pytest.mark.parametrize("call", ["pwrite", "pread_into", "append"])
def test_a_buffer_that_closes_its_file(tmp_path: Path, call: str) -> None:
    async def main() -> None:
        file = await aiopoll.open(tmp_path / "file", "w+b")
        buffer = acting(b"data", file._close)
        with pytest.raises(ValueError, match="closed file"):
            await getattr(file, call)(*((buffer,) if call == "append" else (buffer, 0)))
        await file.close()
        assert file.closed

    aiopoll.run(main())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
@pytest.mark.parametrize("call", ["pwrite", "pread_into", "append"])
def test_errors_of_a_buffer_are_raised_by_the_call(
    tmp_path: Path, call: str, error: type[BaseException]
) -> None:
    async def main() -> None:
        async with aiopoll.open(tmp_path / "file", "w+b") as file:
            buffer = raising(error("by the buffer"))
            with pytest.raises(error, match="by the buffer"):
                getattr(file, call)(*((buffer,) if call == "append" else (buffer, 0)))
            assert file.append_offset == 0
            assert file.statistics().in_flight == 0

    aiopoll.run(main())
