"""Echo by asyncio.BufferedProtocol."""

import argparse
import asyncio
from typing import cast

from benchmarks import program
from benchmarks.workload import Client, Workload, counted
from benchmarks.workloads.echo_protocol import SIZES

WORKLOADS = [
    Workload(
        name=f"echo-buffered-{size}-{connections}",
        title=f"echo by BufferedProtocol, {size}, {counted(connections, 'connection')}",
        program="echo_buffered",
        client=Client(connections=connections, request_bytes=size_bytes),
    )
    for size, size_bytes in SIZES.items()
    for connections in (1, 100, 1000)
]


class Echo(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(65536))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not, by their class

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        # A copy: the transport may keep the data, and the buffer is read into again.
        self.transport.write(bytes(self.buffer[:nbytes]))


async def main(arguments: argparse.Namespace) -> None:
    bound = program.bound_socket()
    address = program.address_of(bound)
    await asyncio.get_running_loop().create_server(Echo, sock=bound, backlog=4096)
    program.ready(address)
    await program.forever()


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
