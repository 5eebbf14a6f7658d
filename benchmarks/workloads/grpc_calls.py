"""Unary calls by grpc.aio, both ends on one loop."""

import argparse
from typing import Any

from benchmarks import program
from benchmarks.implementations import PROGRAM_LOOPS
from benchmarks.workload import Workload

AT_ONCE = 10

WORKLOADS = [
    Workload(
        name="grpc-calls",
        title=f"unary calls by grpc.aio, {AT_ONCE} at once, both ends on the loop",
        program="grpc_calls",
        implementations=PROGRAM_LOOPS,
        unit="call",
        needs="grpc",
    )
]


async def main(arguments: argparse.Namespace) -> None:
    import grpc

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    server = grpc.aio.server()
    methods = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/bench/Echo")

        async def some(_: int, count: int) -> None:
            for number in range(count):
                message = number.to_bytes(64, "big")
                if await call(message) != message:
                    raise SystemExit("the answer is another one")

        await program.measure_tasks(AT_ONCE, some, 10 * AT_ONCE, arguments)
    await server.stop(None)


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
