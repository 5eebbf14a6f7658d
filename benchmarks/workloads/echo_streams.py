"""Echo by streams: asyncio's on each loop, and aiopoll's own."""

import argparse
import asyncio

from benchmarks import program
from benchmarks.implementations import LOOPS
from benchmarks.workload import Client, Workload, counted
from benchmarks.workloads.echo_protocol import SIZES

WORKLOADS = [
    Workload(
        name=f"echo-streams-{size}-{connections}",
        title=f"echo by streams, {size}, {counted(connections, 'connection')}",
        program="echo_streams",
        implementations=(*LOOPS, "aiopoll-streams"),
        client=Client(connections=connections, request_bytes=size_bytes),
    )
    for size, size_bytes in SIZES.items()
    for connections in (1, 100, 1000)
]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the client has ended with a response in flight
    writer.close()


async def main(arguments: argparse.Namespace) -> None:
    bound = program.bound_socket()
    address = program.address_of(bound)
    if arguments.implementation == "aiopoll-streams":
        import aiopoll

        start_server = aiopoll.start_server
    else:
        start_server = asyncio.start_server
    server = await start_server(echo, sock=bound, backlog=4096)
    program.ready(address)
    async with server:
        await program.forever()


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
