"""Echo of datagrams."""

import argparse
import asyncio
import socket
from typing import Any, cast

from benchmarks import program
from benchmarks.implementations import LOOPS, REFERENCES
from benchmarks.workload import Client, Workload, counted

WORKLOADS = [
    Workload(
        name=f"udp-{size}-{connections}",
        title=f"UDP echo, {size}, {counted(connections, 'peer')}",
        program="udp",
        implementations=(*LOOPS, *REFERENCES),
        client=Client(connections=connections, request_bytes=size_bytes),
        unit="datagram",
    )
    for size, size_bytes in (("64B", 64), ("1KiB", 1024))
    for connections in (1, 100)
]


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def main(arguments: argparse.Namespace) -> None:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setblocking(False)
    bound.bind(("127.0.0.1", 0))
    address = "udp:{}:{}".format(*bound.getsockname())
    await asyncio.get_running_loop().create_datagram_endpoint(Echo, sock=bound)
    program.ready(address)
    await program.forever()


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
