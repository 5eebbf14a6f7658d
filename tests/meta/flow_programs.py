"""The programs behind docs/explanation/flows.md: each runs one flow between two pauses.

python flow_programs.py HEADING
"""

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from tests.support.breakpoints import allow_tracing, pause

import aiopoll

SIZE = 4096


def new_loop() -> Any:
    return aiopoll.new_event_loop(backend="aio")


class Protocol(asyncio.Protocol):
    """Calls `on_data` for received data."""

    def __init__(self, connected: asyncio.Future[asyncio.Transport]) -> None:
        self.connected = connected
        self.on_data: Callable[[], object] = lambda: None
        self.on_lost: Callable[[], object] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.connected.set_result(transport)

    def data_received(self, data: bytes) -> None:
        self.on_data()

    def connection_lost(self, error: Exception | None) -> None:
        self.on_lost()


class Connection:
    """A connection that was accepted, whose registration is on the ring, and its client."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.connected: asyncio.Future[asyncio.Transport] = loop.create_future()
        self.protocol = Protocol(self.connected)
        server = loop.run_until_complete(loop.create_server(lambda: self.protocol, "127.0.0.1", 0))
        self.client = socket.create_connection(server.sockets[0].getsockname())
        self.transport = loop.run_until_complete(self.connected)
        loop.run_until_complete(asyncio.sleep(0))  # its poll is submitted

    def run(self, begin: Callable[[], object]) -> None:
        """Runs the loop from `begin` on, with a pause before it."""

        def start() -> None:
            pause()
            begin()

        self.loop.call_soon(start)
        self.loop.run_forever()


def bytes_to_protocol() -> None:
    connection = Connection(new_loop())
    connection.protocol.on_data = pause
    connection.run(lambda: connection.client.send(b"x"))


def line_of_a_stream() -> None:
    loop = new_loop()
    clients: list[socket.socket] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop.call_later(0.01, begin)  # by then readline() waits
        await reader.readline()
        pause()

    def begin() -> None:
        pause()
        clients[0].send(b"x\n")

    server = loop.run_until_complete(aiopoll.start_server(serve, "127.0.0.1", 0))
    clients.append(socket.create_connection(server.sockets[0].getsockname()))
    loop.run_forever()


def write() -> None:
    connection = Connection(new_loop())

    def begin() -> None:
        connection.transport.write(b"x")
        pause()

    connection.run(begin)


def write_that_waits() -> None:
    connection = Connection(new_loop())
    transport, client = connection.transport, connection.client
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)

    def begin() -> None:
        transport.write(bytes(1 << 24))
        client.setblocking(False)
        connection.loop.add_reader(client, read)

    def read() -> None:
        client.recv(1 << 20)
        if not transport.get_write_buffer_size():
            connection.loop.call_soon(pause)

    connection.run(begin)


def timer() -> None:
    loop = new_loop()
    loop.run_until_complete(asyncio.sleep(0))

    def begin() -> None:
        pause()
        loop.call_later(0.001, pause)

    loop.call_soon(begin)
    loop.run_forever()


def close_of_a_connection() -> None:
    connection = Connection(new_loop())
    connection.protocol.on_lost = lambda: connection.loop.call_soon(pause)
    connection.run(connection.transport.close)


async def open_file(directory: str) -> Any:
    path = os.path.join(directory, "file")
    with open(path, "wb") as file:
        file.write(bytes(SIZE))
    return await aiopoll.open(path, "rb", direct=True)


def pread() -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory(dir=".") as directory:
            file = await open_file(directory)
            buffer = aiopoll.AlignedBuffer(SIZE)
            await file.pread_into(buffer, 0)
            pause()
            await file.pread_into(buffer, 0)
            pause()

    asyncio.Runner(loop_factory=new_loop).run(main())


def close_of_a_file() -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory(dir=".") as directory:
            file = await open_file(directory)
            pause()
            await file.close()
            pause()

    asyncio.Runner(loop_factory=new_loop).run(main())


PROGRAMS = {
    "Bytes from the ring to the protocol": bytes_to_protocol,
    "A line of a stream": line_of_a_stream,
    "A write": write,
    "A write that waits": write_that_waits,
    "A timer": timer,
    "The close of a connection": close_of_a_connection,
    "A pread": pread,
    "The close of a file": close_of_a_file,
}

if __name__ == "__main__":
    allow_tracing()
    PROGRAMS[sys.argv[1]]()
