"""Two writes for each response, as a header and a body have them."""

import argparse
import asyncio
from typing import cast

from benchmarks import program
from benchmarks.workload import Client, Workload, counted

WORKLOADS = [
    Workload(
        name=f"two-writes-{connections}",
        title=f"two writes per response, 64 B, {counted(connections, 'connection')}",
        program="two_writes",
        client=Client(connections=connections),
    )
    for connections in (1, 100)
]


class Halves(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not, by their class

    def data_received(self, data: bytes) -> None:
        half = len(data) // 2
        self.transport.write(data[:half])
        self.transport.write(data[half:])


async def main(arguments: argparse.Namespace) -> None:
    bound = program.bound_socket()
    address = program.address_of(bound)
    await asyncio.get_running_loop().create_server(Halves, sock=bound, backlog=4096)
    program.ready(address)
    await program.forever()


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
