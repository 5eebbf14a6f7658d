"""The files of the site, open while it serves: their reads take the routes that the page draws."""

import asyncio
import contextlib
import random
import sys
from pathlib import Path

from aiohttp import web

import aiopoll

BLOCK = 4096
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".xml": "application/xml",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
"""The types by ending; all else is text."""

BINARY = {"image/png", "font/woff2"}


class Files:
    """Files by the name in a request: no path from a client reaches the file system."""

    def __init__(self, paths: dict[str, Path]) -> None:
        self.paths = paths
        self.opened: dict[str, asyncio.Task[aiopoll.BinaryFile]] = {}
        self.blocks: asyncio.Task[aiopoll.BinaryFile] | None = None

    async def serve(self, name: str) -> web.Response:
        """Returns a file, for a folder its index.html; HTTPNotFound for a name that is none's."""
        if name.endswith("/"):
            name += "index.html"
        path = self.paths.get(name)
        if path is None and f"{name}/index.html" in self.paths:
            raise web.HTTPMovedPermanently(f"/{name}/")  # its links are relative to the folder
        if path is None:
            raise web.HTTPNotFound
        if name not in self.opened:
            self.opened[name] = asyncio.create_task(aiopoll.open(path, "rb"))
        file = await asyncio.shield(self.opened[name])
        body = await file.pread(path.stat().st_size, 0)
        kind = TYPES.get(path.suffix, "text/plain")
        charset = None if kind in BINARY else "utf-8"
        return web.Response(body=body, content_type=kind, charset=charset)

    async def block(self, request: web.Request) -> web.Response:
        """Reads a block at a random place past the page cache: from the disk, on the ring."""
        if self.blocks is None:
            self.blocks = asyncio.create_task(open_blocks())
        file = await asyncio.shield(self.blocks)
        places = Path(sys.executable).stat().st_size // BLOCK
        body = await file.pread(BLOCK, BLOCK * random.randrange(places))
        return web.Response(body=body, content_type="application/octet-stream")

    async def close(self, app: web.Application) -> None:
        """Closes the files that were opened."""
        for task in [*self.opened.values(), *([self.blocks] if self.blocks else [])]:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await (await task).close()


async def open_blocks() -> aiopoll.BinaryFile:
    """Opens Python's own file, with O_DIRECT where the file system takes that."""
    try:
        return await aiopoll.open(sys.executable, "rb", direct=True)
    except OSError:
        return await aiopoll.open(sys.executable, "rb")
