"""Runs of datagrams from one endpoint to another on the same loop, as QUIC sends them."""

import argparse
import asyncio
from typing import Any

from benchmarks import program
from benchmarks.implementations import LOOPS
from benchmarks.workload import Workload

SIZE = 1200
IN_A_RUN = 16

WORKLOADS = [
    Workload(
        name=f"udp-runs-{SIZE}B-{IN_A_RUN}",
        title=f"UDP, runs of {IN_A_RUN} datagrams of {SIZE:,} bytes, received on the same loop",
        program="udp_runs",
        implementations=(*LOOPS, "aiopoll-datagrams"),
        unit="datagram",
    )
]


class Receiver(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.missing = 0
        self.all_here: asyncio.Future[None] | None = None

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.missing -= 1
        if len(data) != SIZE:
            raise SystemExit("a datagram has another length")
        if self.missing == 0 and self.all_here is not None:
            self.all_here.set_result(None)


async def main(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    here = ("127.0.0.1", 0)
    receiving: Any
    receiving, receiver = await loop.create_datagram_endpoint(Receiver, local_addr=here)
    sending: Any
    sending, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=here)
    where = receiving.get_extra_info("sockname")
    in_batches = arguments.implementation == "aiopoll-datagrams"
    if in_batches:
        receiving.receive_in_batches()
    run = [bytes(SIZE)] * IN_A_RUN

    async def batch(count: int) -> None:
        for _ in range(max(1, count // IN_A_RUN)):
            receiver.missing = IN_A_RUN
            receiver.all_here = loop.create_future()
            if in_batches:
                sending.sendto_many(run, where)
            else:
                for data in run:
                    sending.sendto(data, where)
            await receiver.all_here

    await program.measure(batch, 10 * IN_A_RUN, arguments)


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
