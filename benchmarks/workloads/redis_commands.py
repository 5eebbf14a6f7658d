"""Commands to a Redis server in another process, one by one and in pipelines."""

import argparse
import asyncio

from benchmarks import program
from benchmarks.implementations import PROGRAM_LOOPS
from benchmarks.workload import Workload

AT_ONCE = 10
PIPELINE = 100

WORKLOADS = [
    Workload(
        name=f"redis-{'pipelines' if pipelines else 'commands'}",
        title=f"redis-py, {f'pipelines of {PIPELINE}' if pipelines else 'single'} commands,"
        f" {AT_ONCE} tasks",
        program="redis_commands",
        implementations=PROGRAM_LOOPS,
        options=("--pipelines",) * pipelines,
        unit="command",
        needs="redis",
        executable="redis-server",
    )
    for pipelines in (False, True)
]


async def main(arguments: argparse.Namespace) -> None:
    from redis.asyncio import Redis
    from redis.exceptions import ConnectionError

    port = program.free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with program.start_beside(*command):
        async with Redis(port=port, single_connection_client=False) as client:
            while True:
                try:
                    await client.ping()
                    break
                except ConnectionError:
                    await asyncio.sleep(0.05)

            async def some(number: int, count: int) -> None:
                for _ in range(count):
                    await client.set(f"key {number}", b"value")

            async def some_at_once(number: int, count: int) -> None:
                for _ in range(max(1, count // PIPELINE)):
                    pipeline = client.pipeline(transaction=False)
                    for _ in range(min(count, PIPELINE)):
                        pipeline.set(f"key {number}", b"value")
                    await pipeline.execute()

            do = some_at_once if arguments.pipelines else some

            await program.measure_tasks(AT_ONCE, do, AT_ONCE * PIPELINE, arguments)


if __name__ == "__main__":
    parser = program.parser()
    parser.add_argument("--pipelines", action="store_true")
    program.run(parser.parse_args(), main)
