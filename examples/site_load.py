"""Puts load on the site: GET requests on some connections for some seconds, one at a time each.

python site_load.py HOST PORT CONNECTIONS SECONDS PATH...
"""

import asyncio
import itertools
import sys


async def one(host: str, port: int, paths: list[str], until: float) -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(host, port)
    try:
        for path in itertools.cycle(paths):
            if loop.time() >= until:
                return
            writer.write(f"GET {path} HTTP/1.1\r\nHost: site\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(
                line.split(b": ", 1) for line in head.lower().splitlines() if b": " in line
            )
            await reader.readexactly(int(fields[b"content-length"]))
    finally:
        writer.close()


async def main(host: str, port: int, connections: int, seconds: float, paths: list[str]) -> None:
    until = asyncio.get_running_loop().time() + seconds
    await asyncio.gather(*(one(host, port, paths, until) for _ in range(connections)))


if __name__ == "__main__":
    asyncio.run(
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:])
    )
