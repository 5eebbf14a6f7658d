"""A fixed HTTP answer from an asyncio.Protocol, on each loop in turn, driven by wrk.

    python benchmarks/http_protocol.py [--rounds 5] [--seconds 3] [--connections 100]

The server is pinned to one CPU and wrk (Debian: wrk) to another.  In each round every loop has
its turn; what is compared are medians over the rounds: requests a second, and the server's CPU
time for each request, which is the steadier of the two.  Needs the dependency group `bench`.
"""

import argparse
import asyncio
import importlib
import json
import os
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
from typing import cast

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world!"
LOOPS = ("asyncio", "uvloop", "aiopoll")  # modules with a new_event_loop
SERVER_CPU, CLIENT_CPU = 0, 1


class Hello(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not, by their class

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def serve() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(Hello, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    server.close()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(usage.ru_utime + usage.ru_stime, flush=True)


def measure(loop: str, connections: int, seconds: int) -> tuple[float, float]:
    """Requests a second, and microseconds of the server's CPU a request."""
    command = ["taskset", "-c", str(SERVER_CPU), sys.executable, __file__, "--serve", loop]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        wrk = ["taskset", "-c", str(CLIENT_CPU), "wrk", "-t1", f"-c{connections}"]
        done = subprocess.run(
            [*wrk, f"-d{seconds}", f"http://127.0.0.1:{port}/"],
            capture_output=True,
            text=True,
            check=True,
        )
        server.send_signal(signal.SIGTERM)
        cpu_seconds = float(server.stdout.readline())
    if "Socket errors" in done.stdout:
        raise SystemExit(f"{loop}: {done.stdout}")
    requests = int(re.findall(r"(\d+) requests in", done.stdout)[0])
    return requests / seconds, cpu_seconds / requests * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=100)
    arguments = parser.parse_args()
    if arguments.serve:
        factory = importlib.import_module(arguments.serve).new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(serve())
        return
    results: dict[str, list[tuple[float, float]]] = {loop: [] for loop in LOOPS}
    for _ in range(arguments.rounds):
        for loop in LOOPS:
            results[loop].append(measure(loop, arguments.connections, arguments.seconds))
    report = {
        loop: {
            "requests_per_second": statistics.median(rate for rate, _ in pairs),
            "server_cpu_us_per_request": statistics.median(cpu for _, cpu in pairs),
            "cpu_ratio_to_asyncio": statistics.median(
                cpu / asyncio_cpu
                for (_, cpu), (_, asyncio_cpu) in zip(pairs, results["asyncio"], strict=True)
            ),
        }
        for loop, pairs in results.items()
    }
    machine = {
        "kernel": os.uname().release,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }
    print(json.dumps({**vars(arguments), "machine": machine, "loops": report}, indent=2))


if __name__ == "__main__":
    main()
