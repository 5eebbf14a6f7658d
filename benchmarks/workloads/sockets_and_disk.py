"""Each request over TCP gets a 4 KiB block from the disk: both in one loop."""

import argparse
import asyncio
from typing import cast

from benchmarks import files, program
from benchmarks.workload import Client, Workload
from benchmarks.workloads.file_reads import COLD_MIB, SMALL_MIB, offsets

DEPTH = 64

WORKLOADS = [
    Workload(
        name="sockets-and-disk",
        title="64 B request, 4 KiB answer from the cold disk, 32 connections",
        program="sockets_and_disk",
        small_options=("--mib", str(SMALL_MIB)),
        implementations=("aiopoll-files", "threads", "uvloop-threads", "aiopoll-threads"),
        client=Client(connections=32, request_bytes=64, answer_bytes=files.BLOCK),
    )
]


async def main(arguments: argparse.Namespace) -> None:
    path = files.data_file("reads", arguments.mib)
    files.forget(path)
    places = offsets(arguments.mib << 20)
    tasks = set()
    async with files.opened(arguments.implementation, path, DEPTH, direct=True) as blocks:

        class Reader(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = cast(asyncio.Transport, transport)

            def data_received(self, data: bytes) -> None:
                task = asyncio.create_task(self.answer())
                tasks.add(task)
                task.add_done_callback(tasks.discard)

            async def answer(self) -> None:
                block = await blocks.read(next(places))
                if not self.transport.is_closing():  # the client has ended
                    self.transport.write(block)

        bound = program.bound_socket()
        address = program.address_of(bound)
        await asyncio.get_running_loop().create_server(Reader, sock=bound, backlog=4096)
        program.ready(address)
        await program.forever()


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--mib", type=int, default=COLD_MIB)
    program.run(parser.parse_args(), main)
