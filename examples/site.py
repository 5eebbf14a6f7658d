"""Serves the files of docs/ with aiohttp, and under /stats the counters of the event loop.

aiopoll run examples/site.py [--host HOST] [--port PORT] [--workers N]

Workers are processes with a listening socket each on the same address (SO_REUSEPORT, socket(7)).
The kernel distributes connections among them by their addresses.  If one ends, all do; where the
first one is killed by SIGKILL, the others stay.
"""

import argparse
import asyncio
import contextlib
import html
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from aiohttp import web

import aiopoll

DOCS = Path(__file__).resolve().parent.parent / "docs"


PAGES = {path.relative_to(DOCS).as_posix(): path for path in sorted(DOCS.rglob("*.md"))}
"""By the name in a request: no path from a client reaches the file system."""


def render_index() -> str:
    links = "".join(
        f'<li><a href="/docs/{html.escape(page)}">{html.escape(page)}</a></li>' for page in PAGES
    )
    return (
        "<!doctype html><title>aiopoll</title><h1>aiopoll</h1>"
        f'<ul>{links}</ul><p><a href="/stats">counters of the event loop</a></p>'
    )


INDEX = render_index()


async def index(request: web.Request) -> web.Response:
    return web.Response(text=INDEX, content_type="text/html")


async def page(request: web.Request) -> web.StreamResponse:
    path = PAGES.get(request.match_info["path"])
    if path is None:
        raise web.HTTPNotFound
    return web.FileResponse(path, headers={"Content-Type": "text/plain; charset=utf-8"})


async def stats(request: web.Request) -> web.Response:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, aiopoll.EventLoop):
        return web.json_response({"loop": type(loop).__name__})
    counters = loop.statistics()._asdict()
    return web.json_response({"loop": type(loop).__name__, "pid": os.getpid(), **counters})


@contextlib.contextmanager
def shared_port(host: str, port: int) -> Iterator[int]:
    """The port, or a free one for 0, kept for sockets of ours; it is bound, and not listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((host, port))
        yield kept.getsockname()[1]


def fork_workers(count: int) -> list[int]:
    """Forks so many processes, before any has a loop; returns their pids, none in a child."""
    children: list[int] = []
    for _ in range(count):
        if not (pid := os.fork()):
            return []
        children.append(pid)
    return children


async def end_with_a_worker(app: web.Application) -> None:
    """Ends all workers when one has ended, so that a supervisor sees it."""

    def ended() -> None:
        print("site: a worker has ended", file=sys.stderr)
        raise web.GracefulExit

    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, ended)


def serve(app: web.Application, host: str, port: int, workers: int) -> None:
    """Serves until SIGINT or SIGTERM comes to this process, and ends the others then."""
    if workers == 1:
        web.run_app(app, host=host, port=port)
        return
    with shared_port(host, port) as port:
        sys.stdout.flush()
        children = fork_workers(workers - 1)
        if children:
            app.on_startup.append(end_with_a_worker)
        try:
            web.run_app(app, host=host, port=port, reuse_port=True)
        finally:
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            for pid in children:
                os.waitpid(pid, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 takes any free port")
    parser.add_argument("--workers", type=int, default=1, help="processes; a CPU has use for one")
    arguments = parser.parse_args()
    if arguments.workers < 1:
        parser.error("--workers must be 1 or more")
    app = web.Application()
    app.router.add_get("/", index)
    app.router.add_get("/stats", stats)
    app.router.add_get("/docs/{path:.+}", page)
    try:
        serve(app, arguments.host, arguments.port, arguments.workers)
    except OSError as error:  # the port is taken, for one
        sys.exit(f"site: {error.strerror or error}")


if __name__ == "__main__":
    main()
