"""The program of test_netem.py: it runs on Linux in two namespaces, and in a world on two hosts.

As a script: `server ADDRESS CONGESTION`, or `client ADDRESS` with the counts of `measure`, which
prints its times as JSON.
"""

import asyncio
import json
import socket
import sys

PORT = 4000
MESSAGE = 64
TRANSFER = 1 << 20

Times = dict[str, list[float]]


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A message that starts with an m is sent back; one with a t brings a mebibyte."""
    try:
        while True:
            request = await reader.readexactly(MESSAGE)
            writer.write(request if request[:1] == b"m" else bytes(TRANSFER))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve(address: str, congestion: str) -> None:
    async with await asyncio.start_server(handle, address, PORT) as server:
        # The default of a machine may be any. In a world this changes nothing.
        name = congestion.encode()
        server.sockets[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
        await server.serve_forever()


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            return await asyncio.open_connection(address, PORT, limit=TRANSFER)
        except ConnectionRefusedError:
            # The server has not begun yet.
            await asyncio.sleep(0.1)


async def measure(address: str, connections: int, messages: int, transfers: int) -> Times:
    """Return the seconds that connects, exchanges and transfers took, each of `connections`."""
    time = asyncio.get_running_loop().time
    (await connect(address))[1].close()
    times: Times = {"connect": [], "exchange": [], "transfer": []}
    for number in range(connections):
        begin = time()
        reader, writer = await connect(address)
        times["connect"].append(time() - begin)
        for _ in range(messages):
            begin = time()
            writer.write(b"m" * MESSAGE)
            await reader.readexactly(MESSAGE)
            times["exchange"].append(time() - begin)
        if number < transfers:
            begin = time()
            writer.write(b"t" * MESSAGE)
            await reader.readexactly(TRANSFER)
            times["transfer"].append(time() - begin)
        writer.close()
    return times


def main(role: str, address: str, *counts: str) -> None:
    if role == "server":
        asyncio.run(serve(address, *counts))
    else:
        print(json.dumps(asyncio.run(measure(address, *map(int, counts)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
