"""A message from one of a thousand connections goes to all of them, as in a chat."""

import argparse
import asyncio
import select
import socket
import sys
from typing import cast

from benchmarks import program
from benchmarks.implementations import PROGRAM_LOOPS
from benchmarks.workload import Client, Workload

MEMBERS, FEW = 1000, 20

WORKLOADS = [
    Workload(
        name="fan-out-1000",
        title=f"a message of 64 B to each of {MEMBERS:,} connections",
        program="fan_out",
        implementations=PROGRAM_LOOPS,
        small_options=("--members", str(FEW)),
        client=Client(connections=1, request_bytes=64),
        unit="message",
    )
]


class Member(asyncio.Protocol):
    def __init__(self, members: "set[asyncio.Transport]") -> None:
        self.members = members

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not, by their class
        self.members.add(self.transport)

    def data_received(self, data: bytes) -> None:
        for member in self.members:
            member.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.members.discard(self.transport)


def listen(address: str, count: int) -> None:
    """Those that only receive: a process of their own."""
    poll = select.epoll()
    members = {}
    for _ in range(count):
        member = socket.create_connection(program.host_and_port(address))
        poll.register(member, select.EPOLLIN)
        members[member.fileno()] = member
    buffer = bytearray(1 << 16)
    while True:
        for number, _ in poll.poll():
            if not members[number].recv_into(buffer):
                return


async def main(arguments: argparse.Namespace) -> None:
    members: set[asyncio.Transport] = set()
    bound = program.bound_socket()
    address = program.address_of(bound)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Member(members), sock=bound, backlog=4096)
    listeners = ["--listen", address, "--members", str(arguments.members)]
    command = [sys.executable, "-m", "benchmarks.workloads.fan_out", *listeners]
    with program.start_beside(*command, "--implementation", "asyncio"):
        while len(members) < arguments.members - 1:
            await asyncio.sleep(0.01)
        program.ready(address)
        await program.forever()


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--listen")
    arguments = parser.parse_args()
    if arguments.listen:
        listen(arguments.listen, arguments.members - 1)
    else:
        program.run(arguments, main)
