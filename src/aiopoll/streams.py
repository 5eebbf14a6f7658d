"""asyncio's streams with compiled readers and writers, on any event loop.

open_connection, start_server and their Unix forms have the parameters, results and exceptions of
asyncio's functions of these names.
"""

import asyncio
from asyncio import streams as asyncio_streams
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from aiopoll.loop.streams.core import DEFAULT_LIMIT
from aiopoll.loop.streams.streams import StreamReader, StreamReaderProtocol, StreamWriter

ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]
"""The callback of a server for each connection: a function, or a coroutine function."""


async def open_connection(
    host: Any = None,
    port: Any = None,
    *,
    limit: int = DEFAULT_LIMIT,
    **options: Any,
) -> tuple[StreamReader, StreamWriter]:
    """asyncio.open_connection with compiled streams.

    limit: of the reader, in bytes.  options: those of loop.create_connection.
    Raises OSError where no server listens, ValueError for options that exclude each other.
    """
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit=limit, loop=loop)
    protocol = StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **options)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: ClientConnected,
    host: Any = None,
    port: Any = None,
    *,
    limit: int = DEFAULT_LIMIT,
    **options: Any,
) -> asyncio.Server:
    """asyncio.start_server with compiled streams.

    limit: of each reader, in bytes.  options: those of loop.create_server.
    Raises OSError where the address is not available.
    """
    loop = asyncio.get_running_loop()
    factory = protocol_factory(client_connected_cb, limit, loop)
    return await loop.create_server(factory, host, port, **options)


async def open_unix_connection(
    path: Any = None, *, limit: int = DEFAULT_LIMIT, **options: Any
) -> tuple[StreamReader, StreamWriter]:
    """asyncio.open_unix_connection with compiled streams; see open_connection."""
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit=limit, loop=loop)
    protocol = StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, path, **options)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_unix_server(
    client_connected_cb: ClientConnected,
    path: Any = None,
    *,
    limit: int = DEFAULT_LIMIT,
    **options: Any,
) -> asyncio.Server:
    """asyncio.start_unix_server with compiled streams; see start_server."""
    loop = asyncio.get_running_loop()
    factory = protocol_factory(client_connected_cb, limit, loop)
    return await loop.create_unix_server(factory, path, **options)


def protocol_factory(
    client_connected_cb: ClientConnected, limit: int, loop: asyncio.AbstractEventLoop
) -> Callable[[], StreamReaderProtocol]:
    """Returns a factory for the protocol of each connection of a server."""

    def factory() -> StreamReaderProtocol:
        reader = StreamReader(limit=limit, loop=loop)
        return StreamReaderProtocol(reader, client_connected_cb, loop=loop)

    return factory


def accelerate_streams() -> ExitStack:
    """Replaces asyncio.open_connection, start_server and their Unix forms by this package's.

    It is for loops that are not this package's, on which asyncio's streams are compiled anyway.
    Returns a context manager whose end, or whose close(), restores asyncio's.  A library that has
    imported the functions before (`from asyncio import open_connection`) keeps asyncio's.  Open
    streams do not change.
    """
    undo = ExitStack()
    for function in (open_connection, start_server, open_unix_connection, start_unix_server):
        for module in (asyncio, asyncio_streams):
            before = getattr(module, function.__name__)
            setattr(module, function.__name__, function)
            undo.callback(put_back, module, function, before)
    return undo


def put_back(module: Any, function: Callable[..., Any], before: Callable[..., Any]) -> None:
    """Undoes a replacement, unless other code has replaced the function since."""
    if getattr(module, function.__name__) is function:
        setattr(module, function.__name__, before)
