"""Stalls in applications that uvicorn and aiohttp serve: reported with the application's line."""

import signal
import sys
import textwrap
import urllib.request
from pathlib import Path

import pytest

from .children import Child, python, start_on_free_port
from .harness import BACKENDS

pytestmark = pytest.mark.subprocess

UVICORN = """
    import asyncio, time
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def blocks(request):
        loop = asyncio.get_running_loop()
        while not loop.stall_count:
            time.sleep(0.3)
        return PlainTextResponse(str(loop.stall_count))

    app = Starlette(routes=[Route("/", blocks)])
"""

AIOHTTP = """
    import asyncio, sys, time
    from aiohttp import web
    import aiopoll

    async def blocks(request):
        loop = asyncio.get_running_loop()
        while not loop.stall_count:
            time.sleep(0.3)
        return web.Response(text=str(loop.stall_count))

    app = web.Application()
    app.add_routes([web.get("/", blocks)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), loop=aiopoll.new_event_loop())
"""


def check(child: Child, port: int) -> None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as response:
            assert int(response.read()) >= 1
        line = child.wait_for("The event loop has been blocked")
        assert "in blocks: time.sleep(0.3); it waits in clock_nanosleep, outside the GIL" in line
        child.wait_for("Stack, most recent call last:")
        assert child.finish(signal.SIGINT) in (0, -signal.SIGINT), child.output
        child.check_quiet()
    finally:
        child.kill()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("program", "ready"), [(UVICORN, "Uvicorn running on"), (AIOHTTP, "Running on")]
)
def test_an_endpoint_that_blocks_is_reported(
    program: str, ready: str, backend: str, tmp_path: Path
) -> None:
    (tmp_path / "served.py").write_text(textwrap.dedent(program))

    def command(port: int) -> list[str]:
        if program is AIOHTTP:
            return [str(part) for part in python("-u", tmp_path / "served.py", str(port))]
        options = ["--port", str(port), "--loop", "aiopoll:new_event_loop"]
        app = ["--app-dir", str(tmp_path), "served:app"]
        return [sys.executable, "-m", "uvicorn", *app, *options]

    environment = {"AIOPOLL_WATCH_STALLS": "0.1", "AIOPOLL_BACKEND": backend}
    check(*start_on_free_port(command, ready, env=environment))
