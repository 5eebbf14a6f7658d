"""Hello, world by aiohttp's server."""

import argparse

from benchmarks import program
from benchmarks.workload import Client, Workload

WORKLOADS = [
    Workload(
        name="http-aiohttp-100",
        title="hello by aiohttp, 100 connections",
        program="http_aiohttp",
        client=Client(connections=100, http_path="/"),
        needs="aiohttp",
    )
]


async def main(arguments: argparse.Namespace) -> None:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="Hello, world!")

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    bound = program.bound_socket()
    address = program.address_of(bound)
    await web.SockSite(runner, bound, backlog=4096).start()
    program.ready(address)
    await program.forever()


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
