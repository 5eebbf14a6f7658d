"""Transports that are collected after their loop was closed: they close without a warning."""

import asyncio
import contextlib
import gc
import io
import os
import select
import socket
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.support.descriptors import open_count
from tests.support.loops import LOOPS, WAITS
from tests.support.tls import tls_contexts

import aiopoll

HANG_SECONDS = 20
Kept = list[Any]
"""The objects that the program still has when the loop is closed; the first is the transport."""


async def stream(loop: Any, kept: Kept) -> None:
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    kept += [transport, theirs]


async def overridden_stream(loop: Any, kept: Kept) -> None:
    class Own(socket.socket):
        pass

    ours, theirs = socket.socketpair()
    own = Own(fileno=ours.detach())
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=own)
    kept += [transport, theirs]


async def stream_with_unsent_data(loop: Any, kept: Kept) -> None:
    await stream(loop, kept)
    kept[0].write(bytes(8 << 20))


async def stream_that_closes(loop: Any, kept: Kept) -> None:
    await stream_with_unsent_data(loop, kept)
    kept[0].close()


async def accepted_stream(loop: Any, kept: Kept) -> None:
    accepted = loop.create_future()

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            accepted.set_result(transport)

    server = await loop.create_server(Accepted, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    kept += [await accepted, client]
    waiting = asyncio.ensure_future(server.wait_closed())
    await asyncio.sleep(0)
    server.close()
    await asyncio.sleep(0)
    kept += [server, waiting]


async def tls(loop: Any, kept: Kept) -> None:
    contexts = tls_contexts()
    accepted = loop.create_future()

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            accepted.set_result(transport)

    server = await loop.create_server(Accepted, "127.0.0.1", 0, ssl=contexts[0])
    transport, _ = await loop.create_connection(
        asyncio.Protocol, *server.sockets[0].getsockname(), ssl=contexts[1]
    )
    kept += [transport, await accepted]
    server.close()


async def tls_with_unsent_data(loop: Any, kept: Kept) -> None:
    await tls(loop, kept)
    kept[1].pause_reading()
    kept[0].write(bytes(8 << 20))


async def tls_that_closes(loop: Any, kept: Kept) -> None:
    await tls(loop, kept)
    kept[0].close()


async def tls_in_its_handshake(loop: Any, kept: Kept) -> None:
    ours, theirs = socket.socketpair()
    connecting = loop.create_connection(
        asyncio.Protocol, sock=ours, ssl=tls_contexts()[1], server_hostname="localhost"
    )
    task = asyncio.ensure_future(connecting)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    kept += [loop._transports[ours.fileno()], task, theirs]


async def datagram(loop: Any, kept: Kept) -> None:
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    kept.append(transport)


async def overridden_datagram(loop: Any, kept: Kept) -> None:
    class Own(socket.socket):
        pass

    own = Own(type=socket.SOCK_DGRAM)
    own.bind(("127.0.0.1", 0))
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=own)
    kept.append(transport)


async def read_pipe(loop: Any, kept: Kept) -> None:
    reader, writer = os.pipe()
    transport, _ = await loop.connect_read_pipe(asyncio.Protocol, io.FileIO(reader))
    kept += [transport, io.FileIO(writer, "w")]


async def write_pipe(loop: Any, kept: Kept) -> None:
    reader, writer = os.pipe()
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, io.FileIO(writer, "w"))
    kept += [transport, io.FileIO(reader)]


async def write_pipe_with_unsent_data(loop: Any, kept: Kept) -> None:
    await write_pipe(loop, kept)
    kept[0].write(bytes(1 << 20))


async def child(loop: Any, kept: Kept) -> None:
    transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000")
    kept.append(transport)


async def child_without_pipes(loop: Any, kept: Kept) -> None:
    transport, _ = await loop.subprocess_exec(
        asyncio.SubprocessProtocol, "sleep", "1000", stdin=None, stdout=None, stderr=None
    )
    kept.append(transport)


async def asyncio_streams(loop: Any, kept: Kept) -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    kept += [writer.transport, reader, writer, theirs]


async def compiled_streams(loop: Any, kept: Kept) -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await aiopoll.open_connection(sock=ours)
    kept += [writer.transport, reader, writer, theirs]


TRANSPORTS: list[Callable[[Any, Kept], Awaitable[None]]] = [
    stream,
    overridden_stream,
    stream_with_unsent_data,
    stream_that_closes,
    accepted_stream,
    tls,
    tls_with_unsent_data,
    tls_that_closes,
    tls_in_its_handshake,
    datagram,
    overridden_datagram,
    read_pipe,
    write_pipe,
    write_pipe_with_unsent_data,
    child,
    child_without_pipes,
    asyncio_streams,
    compiled_streams,
]


@pytest.mark.subprocess
@pytest.mark.parametrize("loop_kind", ["aio", *WAITS, "epoll"])
@pytest.mark.parametrize("make", TRANSPORTS)
def test_nothing_is_ignored_and_everything_is_closed(
    make: Callable[[Any, Kept], Awaitable[None]],
    loop_kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ignored: list[Any] = []
    tls_contexts()
    gc.collect()
    before = open_count()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # for objects not closed, as in asyncio
        loop = LOOPS[loop_kind]()
        loop.set_exception_handler(lambda loop, context: None)  # tasks that were pending
        kept: Kept = []
        loop.run_until_complete(make(loop, kept))
        loop.close()
        monkeypatch.setattr(sys, "unraisablehook", lambda each: ignored.append(each.exc_value))
        pid = kept[0].get_pid() if hasattr(kept[0], "get_pid") else 0
        pidfd = os.pidfd_open(pid) if pid else -1
        kept.clear()
        del loop
        gc.collect()
        gc.collect()
    monkeypatch.undo()
    assert not ignored
    if pid:
        assert select.select([pidfd], [], [], HANG_SECONDS)[0], "the child was not killed"
        os.close(pidfd)
        with contextlib.suppress(ChildProcessError):  # its Popen may have reaped it
            os.waitpid(pid, 0)
    assert open_count() == before


@pytest.mark.parametrize("loop_kind", ["aio", *WAITS, "epoll"])
@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("make", [stream, stream_with_unsent_data, accepted_stream])
def test_a_stream_is_closed_even_then(
    make: Callable[[Any, Kept], Awaitable[None]], how: str, loop_kind: str
) -> None:
    loop = LOOPS[loop_kind]()
    kept: Kept = []
    loop.run_until_complete(make(loop, kept))
    with warnings.catch_warnings():
        if make is stream_with_unsent_data and how == "close":
            warnings.simplefilter("ignore", ResourceWarning)
        loop.close()
        kept[0].pause_reading()
        with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
            kept[0].resume_reading()
        getattr(kept[0], how)()
        assert kept[0].is_closing()
        kept[1].close()
        kept.clear()
        gc.collect()
