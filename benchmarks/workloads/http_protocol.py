"""A fixed HTTP response from an asyncio.Protocol: the loop's part of serving HTTP."""

import argparse
import asyncio
from typing import cast

from benchmarks import program
from benchmarks.workload import Client, Workload, counted

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world!"

WORKLOADS = [
    Workload(
        name=f"http-protocol-{connections}",
        title=f"fixed HTTP answer by Protocol, {counted(connections, 'connection')}",
        program="http_protocol",
        client=Client(connections=connections, http_path="/"),
    )
    for connections in (1, 100)
]


class Hello(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not, by their class

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def main(arguments: argparse.Namespace) -> None:
    bound = program.bound_socket()
    address = program.address_of(bound)
    await asyncio.get_running_loop().create_server(Hello, sock=bound, backlog=4096)
    program.ready(address)
    await program.forever()


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
