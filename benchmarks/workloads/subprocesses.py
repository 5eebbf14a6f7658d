"""Children started and waited for; the CPU time is the parent's."""

import argparse
import asyncio
import shutil

from benchmarks import program
from benchmarks.workload import Workload

WORKLOADS = [
    Workload(
        name="subprocesses",
        title="subprocess started, its output read, waited for",
        program="subprocesses",
        unit="process",
        small_operations=4,
    )
]


async def main(arguments: argparse.Namespace) -> None:
    command = shutil.which("echo") or "echo"

    async def spawn(count: int) -> None:
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(
                command, "hello", stdout=asyncio.subprocess.PIPE
            )
            output, _ = await process.communicate()
            if output != b"hello\n" or process.returncode != 0:
                raise SystemExit(f"the child ended with {process.returncode}: {output!r}")

    await program.measure(spawn, 10, arguments)


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
