"""Serves the files of docs/ with aiohttp, and under /stats the counters of the event loop.

aiopoll run examples/site.py [--host HOST] [--port PORT]
"""

import argparse
import asyncio
import html
import sys
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
    return web.json_response({"loop": type(loop).__name__, **counters})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 takes any free port")
    arguments = parser.parse_args()
    app = web.Application()
    app.router.add_get("/", index)
    app.router.add_get("/stats", stats)
    app.router.add_get("/docs/{path:.+}", page)
    try:
        web.run_app(app, host=arguments.host, port=arguments.port)
    except OSError as error:  # the port is taken, for one
        sys.exit(f"site: {error.strerror or error}")


if __name__ == "__main__":
    main()
