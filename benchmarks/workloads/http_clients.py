"""Requests by an HTTP client's library to a server in another process."""

import argparse
import sys
from collections.abc import Awaitable, Callable

from benchmarks import program
from benchmarks.implementations import PROGRAM_LOOPS
from benchmarks.workload import Workload

AT_ONCE = 10

WORKLOADS = [
    Workload(
        name=f"http-client-{library}",
        title=f"GET by {library}'s client, {AT_ONCE} at once",
        program="http_clients",
        implementations=PROGRAM_LOOPS,
        options=("--library", library),
        needs=library,
    )
    for library in ("aiohttp", "httpx")
]


async def run(get: Callable[[], Awaitable[bytes]], arguments: argparse.Namespace) -> None:
    async def get_some(_: int, count: int) -> None:
        for _ in range(count):
            if await get() != b"Hello, world!":
                raise SystemExit("the answer is another one")

    await program.measure_tasks(AT_ONCE, get_some, 20 * AT_ONCE, arguments)


async def main(arguments: argparse.Namespace) -> None:
    command = [sys.executable, "-m", "benchmarks.workloads.http_protocol"]
    with program.beside(*command, "--implementation", "asyncio") as address:
        url = "http://{}:{}/".format(*program.host_and_port(address))
        if arguments.library == "aiohttp":
            import aiohttp

            async with aiohttp.ClientSession() as session:

                async def get() -> bytes:
                    async with session.get(url) as response:
                        return await response.read()

                await run(get, arguments)
        else:
            import httpx

            async with httpx.AsyncClient(trust_env=False) as client:

                async def get() -> bytes:
                    return (await client.get(url)).content

                await run(get, arguments)


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--library", choices=("aiohttp", "httpx"), required=True)
    program.run(parser.parse_args(), main)
