"""Echo by two processes that share an address, as uvicorn's workers do, or by SO_REUSEPORT.

The second process is a child of the first; both have the server's CPU.
"""

import argparse
import asyncio
import os
import socket

from benchmarks import program
from benchmarks.implementations import LOOPS
from benchmarks.workload import Client, Workload, counted
from benchmarks.workloads.echo_protocol import Echo

WORKLOADS = [
    Workload(
        name=f"workers-{how}-{connections}",
        title=f"echo by two workers {means}, 64B, {counted(connections, 'connection')}",
        program="workers",
        options=("--reuseport",) * (how == "reuseport"),
        implementations=(*LOOPS, "aiopoll-aio"),
        client=Client(connections=connections, request_bytes=64),
        children=True,
    )
    for how, means in (("shared", "on one socket"), ("reuseport", "by SO_REUSEPORT"))
    for connections in (100, 1000)
]


def bound_again(bound: socket.socket) -> socket.socket:
    """Another listening socket on the address of one that has SO_REUSEPORT."""
    another = socket.socket(bound.family, bound.type, bound.proto)
    another.setblocking(False)
    another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    another.bind(bound.getsockname())
    another.listen(4096)
    return another


async def main(arguments: argparse.Namespace) -> None:
    await asyncio.get_running_loop().create_server(Echo, sock=arguments.bound, backlog=4096)
    if arguments.is_child:
        os.write(arguments.pipe[1], b"1")
    else:
        os.read(arguments.pipe[0], 1)
        program.ready(arguments.address)
    await program.forever()


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--reuseport", action="store_true")
    parsed = parser.parse_args()
    parsed.bound = program.bound_socket(reuseport=parsed.reuseport)
    parsed.address = program.address_of(parsed.bound)
    parsed.pipe = os.pipe()
    parsed.is_child = os.fork() == 0  # it ends with the process group
    if parsed.is_child and parsed.reuseport:
        first, parsed.bound = parsed.bound, bound_again(parsed.bound)
        first.close()
    program.run(parsed, main)
