"""JSON by a FastAPI application on uvicorn."""

import argparse

from benchmarks import program
from benchmarks.implementations import PROGRAM_LOOPS
from benchmarks.workload import Client, Workload
from benchmarks.workloads.http_uvicorn import serve

WORKLOADS = [
    Workload(
        name="http-fastapi-100",
        title="JSON by FastAPI on uvicorn, 100 connections",
        program="http_fastapi",
        implementations=PROGRAM_LOOPS,
        client=Client(
            connections=100,
            http_path="/items/7",
            http_body='{"number":7,"name":"a thing","tags":["one","two"],"price":9.5}',
        ),
        needs="fastapi",
    )
]


async def main(arguments: argparse.Namespace) -> None:
    from fastapi import FastAPI

    application = FastAPI()

    @application.get("/items/{number}")
    async def item(number: int) -> dict[str, object]:
        return {"number": number, "name": "a thing", "tags": ["one", "two"], "price": 9.5}

    await serve(application)


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
