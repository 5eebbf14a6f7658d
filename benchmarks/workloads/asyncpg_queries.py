"""Queries by asyncpg to a PostgreSQL server in another process."""

import argparse
import asyncio
import tempfile
from pathlib import Path

from benchmarks import postgres, program
from benchmarks.implementations import PROGRAM_LOOPS
from benchmarks.workload import Workload

AT_ONCE = 10

WORKLOADS = [
    Workload(
        name="asyncpg-queries",
        title=f"SELECT of one row by asyncpg, {AT_ONCE} connections",
        program="asyncpg_queries",
        implementations=PROGRAM_LOOPS,
        unit="query",
        needs="asyncpg",
        executable=postgres.binary("postgres") or "postgresql",
    )
]


async def main(arguments: argparse.Namespace) -> None:
    import asyncpg

    with tempfile.TemporaryDirectory(prefix="aiopoll-") as directory:
        data = postgres.new_database(Path(directory))
        port = program.free_port()
        command = postgres.server_command(data, port, log_min_messages="panic")
        with program.start_beside(*command, cwd=directory, **postgres.unprivileged()):
            while True:
                try:
                    pool = await asyncpg.create_pool(
                        host="127.0.0.1",
                        port=port,
                        user="aiopoll",
                        database="postgres",
                        ssl=False,
                        min_size=AT_ONCE,
                        max_size=AT_ONCE,
                    )
                    break
                except (OSError, asyncpg.CannotConnectNowError):
                    await asyncio.sleep(0.05)
            async with pool:
                connections = [await pool.acquire() for _ in range(AT_ONCE)]

                async def query(task: int, count: int) -> None:
                    for number in range(count):
                        if await connections[task].fetchval("SELECT $1::int + 1", number) != (
                            number + 1
                        ):
                            raise SystemExit("the answer is another one")

                await program.measure_tasks(AT_ONCE, query, 10 * AT_ONCE, arguments)
                for connection in connections:
                    await pool.release(connection)


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
