"""Echo of datagrams."""

import argparse
import asyncio
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
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Echo, local_addr=("127.0.0.1", 0)
    )
    program.ready("udp:{}:{}".format(*transport.get_extra_info("sockname")))
    await program.forever()


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
