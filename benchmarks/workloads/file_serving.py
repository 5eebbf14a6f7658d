"""Each request gets a file of 1 MiB: by sendfile, and over TLS."""

import argparse
import asyncio
from typing import BinaryIO, cast

from benchmarks import files, program
from benchmarks.implementations import PROGRAM_LOOPS
from benchmarks.workload import Client, Workload

SIZE = 1 << 20
PIECE = 256 * 1024  # as asyncio's own fallback

WORKLOADS = [
    Workload(
        name=f"file-serving{'-tls' * tls}",
        title=f"a file of 1 MiB for each request, {'TLS' if tls else 'sendfile'}, 10 connections",
        program="file_serving",
        options=("--tls",) * tls,
        implementations=tuple(name for name in PROGRAM_LOOPS if name != "rloop"),
        client=Client(connections=10, request_bytes=64, answer_bytes=SIZE, tls=tls),
    )
    for tls in (False, True)
]


class Server(asyncio.Protocol):
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.may_write = asyncio.Event()
        self.may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not, by their class

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    def data_received(self, data: bytes) -> None:
        self.answering = asyncio.ensure_future(self.answer())

    def connection_lost(self, exc: Exception | None) -> None:
        if hasattr(self, "answering"):
            self.answering.cancel()

    async def answer(self) -> None:
        loop = asyncio.get_running_loop()
        if not self.transport.get_extra_info("sslcontext"):
            try:
                await loop.sendfile(self.transport, self.file, 0, SIZE)
                return
            except NotImplementedError:  # uvloop has none
                pass
        self.file.seek(0)
        while data := self.file.read(PIECE):
            await self.may_write.wait()
            self.transport.write(data)


async def main(arguments: argparse.Namespace) -> None:
    path = files.data_file("served", SIZE >> 20)
    files.remember(path)
    context = program.server_context() if arguments.tls else None
    bound = program.bound_socket()
    address = program.address_of(bound)
    loop = asyncio.get_running_loop()
    await loop.create_server(
        lambda: Server(open(path, "rb")),  # noqa: SIM115
        sock=bound,
        ssl=context,
    )
    program.ready(address)
    await program.forever()


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--tls", action="store_true")
    program.run(parser.parse_args(), main)
