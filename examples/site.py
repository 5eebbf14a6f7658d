"""Serves the documentation with aiohttp, and a page that draws what the event loop does.

aiopoll run examples/site.py [--host HOST] [--port PORT] [--workers N] [--docs FOLDER]

The documentation is what `make docs` has built in FOLDER, build/docs-site by default; else docs/ as
it is.

Workers are processes with a listening socket each on the same address (SO_REUSEPORT, socket(7)).
The kernel distributes connections among them by their addresses.  If one ends, all do; where the
first one is killed by SIGKILL, the others stay.
"""

import argparse
import asyncio
import contextlib
import html
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from aiohttp import web
from site_files import Files
from site_live import Live

import aiopoll

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
BUILT = HERE.parent / "build" / "docs-site"

LOAD_CONNECTIONS_MAX = 500
LOAD_SECONDS_MAX = 60
LOAD = web.AppKey("load", set[asyncio.Task[None]])
FILES = web.AppKey("files", Files)

PAGES = [path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md"))]
PATHS = {f"docs/{page}": DOCS / page for page in PAGES}
PATHS |= {f"page/{path.name}": path for path in (HERE / "site_page").iterdir()}


def built_pages(folder: Path) -> dict[str, Path]:
    """The files of the site by their names in requests; none where it was not built."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {f"docs/{path.relative_to(folder).as_posix()}": path for path in files}


def render_pages() -> str:
    links = "".join(
        f'<li><a href="/docs/{html.escape(page)}">{html.escape(page)}</a></li>' for page in PAGES
    )
    head = '<!doctype html><html lang="en"><title>aiopoll</title><link rel="icon" href="data:,">'
    return f"{head}<h1>aiopoll</h1><ul>{links}</ul>"


INDEX = render_pages()


async def index(request: web.Request) -> web.Response:
    return await request.app[FILES].serve("page/index.html")


async def file(request: web.Request) -> web.Response:
    return await request.app[FILES].serve(request.path.lstrip("/"))


async def pages(request: web.Request) -> web.Response:
    if "docs/index.html" in request.app[FILES].paths:
        return await request.app[FILES].serve("docs/")
    return web.Response(text=INDEX, content_type="text/html")


def check_load(asked: object) -> tuple[int, float]:
    """The connections and seconds of a request for load; ValueError for others."""
    match asked:
        case {"connections": int(connections), "seconds": int() | float() as seconds}:
            if not 1 <= connections <= LOAD_CONNECTIONS_MAX:
                raise ValueError(f"connections must be from 1 to {LOAD_CONNECTIONS_MAX}")
            if not 0 < seconds <= LOAD_SECONDS_MAX:
                raise ValueError(f"seconds must be from 0 to {LOAD_SECONDS_MAX}")
            return connections, float(seconds)
    raise ValueError("an object with connections and seconds is expected")


async def load(request: web.Request) -> web.Response:
    """Starts a process that puts load on the address of this request: one at a time."""
    try:
        connections, seconds = check_load(await request.json())
    except (json.JSONDecodeError, ValueError) as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None
    if request.app[LOAD]:
        raise web.HTTPConflict(text="there is load already\n")
    transport = request.transport
    assert transport is not None
    host, port = transport.get_extra_info("sockname")[:2]
    task = asyncio.create_task(run_load(host, port, connections, seconds), name="load")
    request.app[LOAD].add(task)
    task.add_done_callback(request.app[LOAD].discard)
    return web.json_response({"connections": connections, "seconds": seconds})


async def run_load(host: str, port: int, connections: int, seconds: float) -> None:
    program = [sys.executable, str(HERE / "site_load.py"), host, str(port)]
    arguments = [str(connections), str(seconds), "/stats", "/docs/index.md", "/block"]
    process = await asyncio.create_subprocess_exec(*program, *arguments)
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def end_load(app: web.Application) -> None:
    running = app[LOAD]
    tasks = list(running)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


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
    parser.add_argument("--docs", type=Path, default=BUILT, help="what `make docs` has built")
    arguments = parser.parse_args()
    if arguments.workers < 1:
        parser.error("--workers must be 1 or more")
    live = Live()
    app = web.Application(middlewares=[live.count])
    files = app[FILES] = Files(PATHS | built_pages(arguments.docs))
    app[LOAD] = set()
    app.on_shutdown.append(live.close)
    app.on_shutdown.append(end_load)
    app.on_cleanup.append(files.close)
    app.router.add_get("/", index)
    app.router.add_get("/page/{name}", file)
    app.router.add_get("/block", files.block)
    app.router.add_get("/live", live.listen)
    app.router.add_post("/load", load)
    app.router.add_get("/stats", stats)
    app.router.add_get("/docs/", pages)
    app.router.add_get("/docs/{path:.+}", file)
    try:
        serve(app, arguments.host, arguments.port, arguments.workers)
    except OSError as error:  # the port is taken, for one
        sys.exit(f"site: {error.strerror or error}")


if __name__ == "__main__":
    main()
