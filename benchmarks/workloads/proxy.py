"""A proxy that joins each connection with one of its own to an echo server."""

import argparse
import asyncio
from typing import cast

from benchmarks import native, program
from benchmarks.implementations import PROGRAM_LOOPS
from benchmarks.workload import Client, Workload

WORKLOADS = [
    Workload(
        name=f"proxy-{size}-50",
        title=f"a proxy before an echo server, {size}, 50 connections",
        program="proxy",
        implementations=PROGRAM_LOOPS,
        client=Client(connections=50, request_bytes=size_bytes),
    )
    for size, size_bytes in (("1KiB", 1024), ("64KiB", 65536))
]


class End(asyncio.Protocol):
    """One end of a pair: what it receives the other one sends, which may hold it back."""

    other: "End | None" = None

    def __init__(self) -> None:
        self.early: list[bytes] = []  # that came before there was another end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not, by their class

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


class Front(End):
    """The end that a client has connected to."""

    def __init__(self, behind: tuple[str, int]) -> None:
        super().__init__()
        self.behind = behind

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.joining = asyncio.ensure_future(self.join())

    async def join(self) -> None:
        loop = asyncio.get_running_loop()
        _, back = await loop.create_connection(End, *self.behind)
        self.other, back.other = back, self
        for data in self.early:
            back.transport.write(data)


async def main(arguments: argparse.Namespace) -> None:
    with program.beside(native.echo_server(), "--epoll", "tcp:127.0.0.1:0") as behind:
        where = program.host_and_port(behind)
        bound = program.bound_socket()
        address = program.address_of(bound)
        loop = asyncio.get_running_loop()
        await loop.create_server(lambda: Front(where), sock=bound, backlog=4096)
        program.ready(address)
        await program.forever()


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
