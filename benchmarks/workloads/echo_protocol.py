"""Echo by asyncio.Protocol; over TCP, and for other workloads over a Unix socket or TLS."""

import argparse
import asyncio
import subprocess
import sys
from typing import cast

from benchmarks import native, program
from benchmarks.implementations import LOOPS, REFERENCES
from benchmarks.workload import Client, Workload, counted

TIMER_SECONDS = 0.01
SIZES = {"64B": 64, "1KiB": 1024, "64KiB": 65536}

WORKLOADS = [
    Workload(
        name=f"echo-protocol-{size}-{connections}",
        title=f"echo by Protocol, {size}, {counted(connections, 'connection')}",
        program="echo_protocol",
        implementations=(*LOOPS, *REFERENCES),
        client=Client(connections=connections, request_bytes=size_bytes),
    )
    for size, size_bytes in SIZES.items()
    for connections in ((1, 50, 100, 1000) if size == "64KiB" else (1, 100, 1000))
] + [
    Workload(
        name="echo-protocol-crowded",
        title="echo by Protocol, 64B, 1 connection, beside a busy process on the server's CPU",
        program="echo_protocol",
        options=("--crowded",),
        implementations=(*LOOPS, "aiopoll-aio"),
        client=Client(connections=1, request_bytes=64),
    )
]


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not, by their class

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def start_timer(loop: asyncio.AbstractEventLoop, due: float) -> None:
    """A timer that comes due every TIMER_SECONDS from then on."""
    now = loop.time()
    loop.call_at(due, start_timer, loop, max(due, now - TIMER_SECONDS) + TIMER_SECONDS)


async def main(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    if arguments.crowded:  # the child ends with its process group
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
    for number in range(arguments.timers):
        start_timer(loop, loop.time() + TIMER_SECONDS * number / arguments.timers)
    if arguments.unix:
        path = native.socket_path()
        await loop.create_unix_server(Echo, path, backlog=4096)
        program.ready(f"unix:{path}")
    else:
        context = program.server_context() if arguments.tls else None
        bound = program.bound_socket()
        address = program.address_of(bound)
        await loop.create_server(Echo, sock=bound, ssl=context, backlog=4096)
        program.ready(address)
    await program.forever()


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--unix", action="store_true")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--timers", type=int, default=0)
    parser.add_argument("--crowded", action="store_true")
    program.run(parser.parse_args(), main)
