"""A loop in each of several threads: messages of 64 bytes to and fro over a pair of sockets.

What a Python without a GIL is for; with one, a second thread brings nothing.
"""

import argparse
import asyncio
import os
import socket
import threading
import time
from typing import cast

from benchmarks import program
from benchmarks.implementations import LOOPS, loop_factory
from benchmarks.workload import Workload, counted
from benchmarks.workloads.echo_protocol import Echo

MESSAGE = bytes(range(64))
LOOK_AT_CLOCK_EVERY = 64

WORKLOADS = [
    Workload(
        name=f"loops-in-threads-{threads}",
        title=f"64B to and fro in {counted(threads, 'thread')}, each with a loop",
        program="loops_in_threads",
        options=("--threads", str(threads)),
        implementations=LOOPS,
        unit="message",
    )
    for threads in (1, 2)
]


class Ping(asyncio.Protocol):
    """Writes a message when the last one has come back, until the time is over."""

    def __init__(self, done: "asyncio.Future[int]", until: float, operations: int) -> None:
        self.done, self.until, self.operations = done, until, operations
        self.count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(MESSAGE)

    def data_received(self, data: bytes) -> None:
        if data != MESSAGE:
            raise SystemExit("the message is another one")
        self.count += 1
        if self.count % LOOK_AT_CLOCK_EVERY == 0 and (
            self.count >= self.operations if self.operations else time.perf_counter() > self.until
        ):
            self.transport.close()
            self.done.set_result(self.count)
        else:
            self.transport.write(MESSAGE)


async def exchange(until: float, operations: int) -> int:
    """The number of messages that came back until then."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    await loop.create_connection(Echo, sock=ends[0])
    await loop.create_connection(lambda: Ping(done, until, operations), sock=ends[1])
    return cast(int, await done)


def run_loop(implementation: str, until: float, operations: int, counts: list[int]) -> None:
    with asyncio.Runner(loop_factory=loop_factory(implementation)) as runner:
        counts.append(runner.run(exchange(until, operations)))


def main(arguments: argparse.Namespace) -> None:
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    while program.started():
        counts: list[int] = []
        began = time.perf_counter()
        until = began + arguments.seconds
        threads = [
            threading.Thread(
                target=run_loop,
                args=(arguments.implementation, until, arguments.operations or 0, counts),
            )
            for _ in range(arguments.threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        program.tell(operations=sum(counts), seconds=time.perf_counter() - began)


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--threads", type=int, required=True)
    main(parser.parse_args())
