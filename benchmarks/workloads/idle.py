"""A loop that has been busy and is idle now: the cost of waiting."""

import argparse
import asyncio
import socket

from benchmarks import program
from benchmarks.workload import Workload

WORKLOADS = [
    Workload(
        name="idle",
        title="100 ms asleep after a burst of traffic",
        program="idle",
        unit="100 ms",
        metric="cpu_us",
        small_operations=1,
        alone=True,  # for long: so little is measured that a neighbour would show
    )
]


async def traffic() -> None:
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        for _ in range(1000):
            await loop.sock_sendall(left, b"ping")
            await loop.sock_sendall(right, await loop.sock_recv(right, 64))
            await loop.sock_recv(left, 64)


async def main(arguments: argparse.Namespace) -> None:
    async def sleep(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0.1)

    await traffic()
    await program.measure(sleep, 1, arguments)


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
