"""Code shared by the programs of benchmarks/workloads: command line and protocol with `run`.

A server prints `ready ADDRESS` and serves until it is killed.  A program that measures itself
prints `start`, waits for a line, works and prints one line of JSON. It repeats this until its
standard input ends.  The measuring process can inspect it while it waits.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from benchmarks import native
from benchmarks.implementations import loop_factory


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--implementation", required=True)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a program without a client")
    parser.add_argument("--warm-up", type=float, default=0.0)
    parser.add_argument("--operations", type=int, help="do about so many instead")
    return parser


def run(arguments: argparse.Namespace, main: Callable[[argparse.Namespace], Any]) -> None:
    """asyncio.run(main(arguments)) on the implementation's loop."""
    grow_malloc_threshold()
    with asyncio.Runner(loop_factory=loop_factory(arguments.implementation)) as runner:
        runner.run(main(arguments))


def grow_malloc_threshold() -> None:
    """Brings malloc into the state that a program has once it has freed something large.

    asyncio and rloop allocate 256 KiB for each read.  glibc maps and unmaps so much anew each time,
    until a mapped block of that size or more has been freed (mallopt(3), M_MMAP_THRESHOLD).  From
    then on it comes from the heap.  In most programs that happens while they start.  In ours, which
    are small, it would not: those loops would look several times slower than they are.
    """
    bytes(4 << 20)


def ready(address: str) -> None:
    print("ready", address, flush=True)


def bound_socket(reuseport: bool = False) -> socket.socket:
    """A listening TCP socket on a free port of 127.0.0.1.

    Its protocol is named, for asyncio sets TCP_NODELAY only on sockets whose proto is TCP.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setblocking(False)
    if reuseport:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", 0))
    bound.listen(4096)
    return bound


def free_port() -> int:
    """A port of 127.0.0.1 for a server that cannot be given a socket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def server_context() -> ssl.SSLContext:
    """With the certificate that the client expects."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(native.certificate())
    return context


def address_of(bound: socket.socket) -> str:
    """Its address for the `ready` line; call this before a loop has it, for rloop detaches it."""
    return "tcp:{}:{}".format(*bound.getsockname())


@contextlib.contextmanager
def start_beside(*command: str, **options: Any) -> "Iterator[subprocess.Popen[str]]":
    """A process on the CPUs that are not ours, where there are others.

    options: those of Popen.  It ends with the context, or with the process group.
    """
    mine = os.sched_getaffinity(0)
    others = set(range(os.cpu_count() or 1)) - mine
    try:
        os.sched_setaffinity(0, others or mine)
        started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    finally:
        os.sched_setaffinity(0, mine)
    assert started.stdout is not None
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        started.stdout.close()


@contextlib.contextmanager
def beside(*command: str) -> Iterator[str]:
    """start_beside() for a program that says what it is ready at, which is returned."""
    with start_beside(*command) as started:
        assert started.stdout is not None
        yield started.stdout.readline().removeprefix("ready").strip()


def host_and_port(address: str) -> tuple[str, int]:
    """Of an address as a `ready` line has it."""
    _, host, port = address.split(":")
    return host, int(port)


async def forever() -> None:
    await asyncio.Event().wait()


def started() -> bool:
    """Prints that the work can begin, and blocks until it may; False where no more is wanted."""
    print("start", flush=True)
    return bool(sys.stdin.readline())


def tell(**result: Any) -> None:
    """Prints the result."""
    print(json.dumps(result), flush=True)


def _context_switches() -> int:
    """Of all threads, with those that have ended: /proc has only the living ones'."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_nvcsw + usage.ru_nivcsw


async def measure(
    batch: Callable[[int], Awaitable[None]],
    batch_size: int,
    arguments: argparse.Namespace,
    latencies_ns: "array[int] | None" = None,
    at_end: Callable[[], dict[str, float]] = dict,
) -> None:
    """Awaits batch(batch_size) for the given seconds, and reports the rate; repeats it on request.

    A batch that measures its operations appends their durations to `latencies_ns`.  `at_end`
    returns further metrics, or ends the program where the work is found to be wrong.
    """
    clock = time.perf_counter
    if arguments.operations:
        batch_size = min(batch_size, arguments.operations)
    else:
        until = clock() + arguments.warm_up
        while clock() < until:
            await batch(batch_size)
    while started():
        if latencies_ns is not None:
            del latencies_ns[:]
        before = _context_switches()
        operations, began = 0, clock()
        while True:
            await batch(batch_size)
            operations += batch_size
            seconds = clock() - began
            if (
                operations >= arguments.operations
                if arguments.operations
                else (seconds >= arguments.seconds)
            ):
                break
        result = at_end()
        result["context_switches"] = _context_switches() - before
        if latencies_ns:
            in_order = sorted(latencies_ns)
            for name, share in (("p50_us", 0.5), ("p99_us", 0.99)):
                result[name] = in_order[int(share * (len(in_order) - 1))] / 1e3
        tell(operations=operations, seconds=seconds, **result)


async def measure_tasks(
    tasks: int,
    work: Callable[[int, int], Awaitable[None]],
    batch_size: int,
    arguments: argparse.Namespace,
) -> None:
    """measure() for tasks that run at once: work(number of the task, its share of a batch)."""

    async def batch(count: int) -> None:
        share = max(1, count // tasks)
        await asyncio.gather(*(work(number, share) for number in range(tasks)))

    await measure(batch, batch_size, arguments)
