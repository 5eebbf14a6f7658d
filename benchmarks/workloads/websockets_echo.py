"""Echo by the library websockets, both ends on one loop."""

import argparse
import contextlib

from benchmarks import program
from benchmarks.implementations import PROGRAM_LOOPS
from benchmarks.workload import Workload

CONNECTIONS = 20

WORKLOADS = [
    Workload(
        name="websockets-echo",
        title=f"echo of 64 B by websockets, {CONNECTIONS} connections, both ends on the loop",
        program="websockets_echo",
        implementations=PROGRAM_LOOPS,
        needs="websockets",
    )
]


async def main(arguments: argparse.Namespace) -> None:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with contextlib.AsyncExitStack() as stack:
        bound = program.bound_socket()
        host, port = bound.getsockname()
        await stack.enter_async_context(serve(echo, sock=bound, compression=None))
        connections = [
            await stack.enter_async_context(connect(f"ws://{host}:{port}", compression=None))
            for _ in range(CONNECTIONS)
        ]

        async def talk(task: int, count: int) -> None:
            connection = connections[task]
            for number in range(count):
                message = number.to_bytes(64, "big")
                await connection.send(message)
                if await connection.recv() != message:
                    raise SystemExit("the answer is another one")

        await program.measure_tasks(CONNECTIONS, talk, 50 * CONNECTIONS, arguments)


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
