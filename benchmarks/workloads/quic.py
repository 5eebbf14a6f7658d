"""QUIC by aioquic, the server and the client on one loop: large responses, and many small ones."""

import argparse
import asyncio
import ssl
from typing import Any

from benchmarks import native, program
from benchmarks.implementations import LOOPS_WITHOUT_RLOOP
from benchmarks.workload import Workload

AT_ONCE = 10
IMPLEMENTATIONS = (*LOOPS_WITHOUT_RLOOP, "aiopoll-datagrams")

WORKLOADS = [
    Workload(
        name="quic-1MiB",
        title="QUIC by aioquic, responses of 1 MiB",
        program="quic",
        options=("--size", str(1 << 20)),
        implementations=IMPLEMENTATIONS,
        needs="aioquic",
        executable="openssl",
        small_operations=2,
    ),
    Workload(
        name=f"quic-64B-{AT_ONCE}",
        title=f"QUIC by aioquic, responses of 64 bytes, {AT_ONCE} at once",
        program="quic",
        options=("--size", "64", "--at-once", str(AT_ONCE)),
        implementations=IMPLEMENTATIONS,
        needs="aioquic",
        executable="openssl",
        small_operations=20,
    ),
]


class Gathering:
    """Sends what a connection has sent in one iteration of the loop by sendto_many()."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._datagrams: list[bytes] = []
        self._receiver: Any = None

    def sendto(self, data: bytes, addr: Any) -> None:
        if self._datagrams and addr != self._receiver:
            self._flush()
        if not self._datagrams:
            asyncio.get_running_loop().call_soon(self._flush)
        self._receiver = addr
        self._datagrams.append(data)

    def _flush(self) -> None:
        datagrams, self._datagrams = self._datagrams, []
        self._transport.sendto_many(datagrams, self._receiver)


async def serve_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(int(await reader.read())))
    writer.write_eof()


async def main(arguments: argparse.Namespace) -> None:
    from aioquic.asyncio import QuicConnectionProtocol, connect
    from aioquic.asyncio.server import QuicServer
    from aioquic.quic.configuration import QuicConfiguration

    class InBatches(QuicConnectionProtocol):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            transport.receive_in_batches()
            super().connection_made(Gathering(transport))

    kind = InBatches if arguments.implementation == "aiopoll-datagrams" else QuicConnectionProtocol
    of_server = QuicConfiguration(is_client=False, alpn_protocols=["benchmark"])
    of_server.load_cert_chain(native.certificate(), native.certificate())
    of_client = QuicConfiguration(
        alpn_protocols=["benchmark"], server_name="localhost", verify_mode=ssl.CERT_NONE
    )
    handlers = set()

    def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.create_task(serve_stream(reader, writer))
        handlers.add(handler)
        handler.add_done_callback(handlers.discard)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: QuicServer(configuration=of_server, create_protocol=kind, stream_handler=handle),
        local_addr=("::1", 0),
    )
    address = transport.get_extra_info("sockname")
    async with connect(*address[:2], configuration=of_client, create_protocol=kind) as client:

        async def get(count: int) -> None:
            for _ in range(count):
                reader, writer = await client.create_stream()
                writer.write(b"%d" % arguments.size)
                writer.write_eof()
                if len(await reader.read()) != arguments.size:
                    raise SystemExit("the response has another length")

        async def batch(count: int) -> None:
            each = max(1, count // arguments.at_once)
            await asyncio.gather(*(get(each) for _ in range(arguments.at_once)))

        await program.measure(batch, arguments.at_once, arguments)


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--size", type=int, required=True, help="of a response, in bytes")
    parser.add_argument("--at-once", type=int, default=1, help="requests")
    program.run(parser.parse_args(), main)
