"""Plain text by an ASGI application on uvicorn."""

import argparse
from typing import Any

from benchmarks import program
from benchmarks.workload import Client, Workload

WORKLOADS = [
    Workload(
        name="http-uvicorn-100",
        title="plain text by uvicorn, 100 connections",
        program="http_uvicorn",
        client=Client(connections=100, http_path="/"),
        needs="uvicorn",
    )
]

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"13")]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"Hello, world!"})


async def serve(application: Any) -> None:
    import uvicorn

    bound = program.bound_socket()
    address = program.address_of(bound)
    config = uvicorn.Config(
        application,
        log_level="error",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=3600,  # while the others are measured
    )
    program.ready(address)
    await uvicorn.Server(config).serve(sockets=[bound])


async def main(arguments: argparse.Namespace) -> None:
    await serve(hello)


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
