"""A Dask cluster and its client, run by test_dask.py as `dask_program.py MODE BACKEND`.

MODE: "asynchronous", all of it on the running loop; "threads", the cluster on a loop of distributed
in another thread; "processes", each worker in a process.
"""

import asyncio
import logging
import os
import sys
from typing import Any

import distributed
import distributed.utils

import aiopoll


async def describe_loop() -> tuple[str, str, int]:
    """Runs on the loop of a worker or of the scheduler."""
    loop: Any = asyncio.get_running_loop()
    return f"{type(loop).__module__}.{type(loop).__name__}", loop.backend, os.getpid()


def square(number: int) -> int:
    return number * number


def cluster_options(mode: str) -> dict[str, Any]:
    return {
        "n_workers": 2,
        "threads_per_worker": 2,
        "processes": mode == "processes",
        "protocol": "tcp://",  # also within one process, where it would do without sockets
        "dashboard_address": ":0",
        "worker_dashboard_address": None,
        "silence_logs": logging.ERROR,
    }


def check_loops(loops: list[tuple[str, str, int]], mode: str, backend: str) -> None:
    assert len(loops) == 3, loops
    ours = (f"{aiopoll.EventLoop.__module__}.EventLoop", backend)
    assert {loop[:2] for loop in loops} == {ours}, loops
    assert len({loop[2] for loop in loops}) == (3 if mode == "processes" else 1), loops


async def asynchronous(mode: str, backend: str) -> None:
    async with (
        distributed.LocalCluster(asynchronous=True, **cluster_options(mode)) as cluster,
        distributed.Client(cluster, asynchronous=True) as client,
    ):
        loops = [*(await client.run(describe_loop)).values()]
        check_loops([*loops, await client.run_on_scheduler(describe_loop)], mode, backend)
        squares = client.map(square, range(200))
        assert await client.submit(sum, squares) == sum(n * n for n in range(200))
        big = await client.scatter(bytes(8_000_000), broadcast=True)
        assert await client.submit(len, big) == 8_000_000
        assert len(await client.gather(big)) == 8_000_000
        del squares, big


def synchronous(mode: str, backend: str) -> None:
    with (
        distributed.LocalCluster(**cluster_options(mode)) as cluster,
        distributed.Client(cluster) as client,
    ):
        loops = [*client.run(describe_loop).values()]
        check_loops([*loops, client.run_on_scheduler(describe_loop)], mode, backend)
        squares = client.map(square, range(200))
        assert client.submit(sum, squares).result() == sum(n * n for n in range(200))
        big = client.scatter(bytes(8_000_000), broadcast=True)
        assert client.submit(len, big).result() == 8_000_000
        assert len(client.gather(big)) == 8_000_000
        del squares, big


if __name__ == "__main__":
    mode, backend = sys.argv[1:]
    if mode == "asynchronous":
        aiopoll.run(asynchronous(mode, backend), backend=backend)
    else:
        distributed.utils.get_loop_factory = lambda: aiopoll.new_event_loop
        synchronous(mode, backend)
    print("done", flush=True)
