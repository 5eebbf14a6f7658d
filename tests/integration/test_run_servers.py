"""`aiopoll run` of the servers that people start: the running application names its loop.

A server that is not asked for another loop runs on ours, in each of its processes, with uvloop
installed and without.  Where the user asks for uvloop, uvloop runs, and is reported in one line.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from .children import Child, reply_from, start_on_free_port

pytestmark = pytest.mark.subprocess

FOLDER = str(Path(__file__).parent)
OURS = "aiopoll.loop.event_loop.EventLoop"
UVLOOP = "uvloop.Loop"

UVICORN = ["-m", "uvicorn", "--app-dir", FOLDER, "loop_app:app", "--port", "{port}"]
GUNICORN = ["-m", "gunicorn", "--chdir", FOLDER, "--no-control-socket", "loop_app:app"]
GUNICORN += ["--bind", "127.0.0.1:{port}"]
HYPERCORN = ["-m", "hypercorn", f"{FOLDER}/loop_app.py:app", "--bind", "127.0.0.1:{port}"]
GRANIAN = ["-m", "granian", "--interface", "asgi", "--working-dir", FOLDER, "loop_app:app"]
SANIC = ["-m", "sanic", "loop_app:make_sanic", "--factory", "--port={port}"]
STARTED = "loop: "

SERVERS: dict[str, list[str]] = {
    "uvicorn": UVICORN,
    "uvicorn --loop auto": [*UVICORN, "--loop", "auto"],
    "uvicorn --loop asyncio": [*UVICORN, "--loop", "asyncio"],
    "uvicorn --loop none": [*UVICORN, "--loop", "none"],
    "uvicorn --workers": [*UVICORN, "--workers", "2"],
    "uvicorn --reload": [*UVICORN, "--reload", "--reload-dir", FOLDER],
    "gunicorn, uvicorn-worker": [*GUNICORN, "-k", "uvicorn_worker.UvicornWorker"],
    "gunicorn, our worker": [*GUNICORN, "-k", "aiopoll.gunicorn.UvicornWorker", "-w", "2"],
    "gunicorn, asgi": [*GUNICORN, "-k", "asgi"],
    "gunicorn, asgi on asyncio": [*GUNICORN, "-k", "asgi", "--asgi-loop", "asyncio"],
    "hypercorn": HYPERCORN,
    "hypercorn --workers": [*HYPERCORN, "--workers", "2"],
    "hypercorn --reload": [*HYPERCORN, "--reload"],
    "granian": [*GRANIAN, "--port", "{port}"],
    "sanic": [*SANIC, "--workers", "2"],
    "sanic, one process": [*SANIC, "--single-process"],
}
WITHOUT_UVLOOP = ["uvicorn", "uvicorn --workers", "gunicorn, asgi", "granian"]
CHOSEN: dict[str, list[str]] = {
    "uvicorn": [*UVICORN, "--loop", "uvloop"],
    "uvicorn --workers": [*UVICORN, "--loop", "uvloop", "--workers", "2"],
    "gunicorn, asgi": [*GUNICORN, "-k", "asgi", "--asgi-loop", "uvloop"],
    "hypercorn": [*HYPERCORN, "--worker-class", "uvloop"],
    "granian": [*GRANIAN, "--port", "{port}", "--loop", "uvloop"],
}
WITHOUT_RUN = {
    "gunicorn": [*GUNICORN, "-k", "aiopoll.gunicorn.UvicornWorker"],
    "uvicorn": [*UVICORN, "--loop", "aiopoll:new_event_loop"],
}

Serve = Callable[..., tuple[Child, str]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """serve(launcher, command) starts a server: the Child and the class of its loop."""
    children: list[Child] = []

    def serve(
        launcher: list[str], command: list[str], env: Mapping[str, str] | None = None
    ) -> tuple[Child, str]:
        def arguments(port: int) -> list[str]:
            filled = [part.format(port=port) for part in command]
            return [sys.executable, *launcher, *filled]

        ready = "Starting worker" if "sanic" in command else STARTED
        paths = [(env or {}).get("PYTHONPATH"), FOLDER, os.environ.get("PYTHONPATH")]
        path = os.pathsep.join(filter(None, paths))
        child, port = start_on_free_port(
            arguments, ready, cwd=tmp_path, env={**(env or {}), "PYTHONPATH": path}
        )
        children.append(child)
        return child, reply_from(port)

    yield serve
    for child in children:
        child.kill()


def reports(child: Child) -> list[str]:
    return [line for line in child.lines if line.startswith("aiopoll run:")]


def end(child: Child, server: str) -> None:
    """Ends it as its users do; Sanic's manager of workers outlives both signals here."""
    if "sanic" not in server:
        # At SIGINT gunicorn's worker of uvicorn has itself waited for, for half a minute.
        child.finish(signal.SIGTERM if "gunicorn" in server else signal.SIGINT)
        assert "Traceback" not in child.output, child.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "uvloop"),
    [(name, True) for name in SERVERS] + [(name, False) for name in WITHOUT_UVLOOP],
)
def test_a_server_left_to_itself_runs_on_our_loop(
    server: str, uvloop: bool, serve: Serve, tmp_path: Path
) -> None:
    env = {}
    if not uvloop:
        (tmp_path / "none").mkdir()
        (tmp_path / "none" / "uvloop.py").write_text("raise ModuleNotFoundError(name='uvloop')")
        env["PYTHONPATH"] = str(tmp_path / "none")
    child, loop = serve(["-m", "aiopoll", "run"], SERVERS[server], env)
    assert loop == OURS, child.output
    end(child, server)
    assert reports(child) == []
    if "sanic" not in server:
        assert {line for line in child.lines if line.startswith(STARTED)} == {STARTED + OURS}


@pytest.mark.slow
@pytest.mark.parametrize("server", CHOSEN)
def test_a_server_asked_for_uvloop_is_reported(server: str, serve: Serve) -> None:
    child, loop = serve(["-m", "aiopoll", "run"], CHOSEN[server])
    assert loop == UVLOOP
    end(child, server)
    lines = reports(child)
    # One of each worker, and the supervisor runs no loop.
    assert 1 <= len(lines) <= (2 if "--workers" in server else 1), child.output
    for line in lines:
        assert UVLOOP in line
        assert "aiopoll run --alias-uvloop" in line
    for word in ("uvicorn", "gunicorn", "hypercorn", "granian"):
        if word in server:
            assert f"{os.sep}{word}{os.sep}" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("server", CHOSEN)
def test_alias_uvloop_replaces_it_in_each_server(server: str, serve: Serve) -> None:
    child, loop = serve(["-m", "aiopoll", "run", "--alias-uvloop"], CHOSEN[server])
    assert loop == OURS
    end(child, server)
    assert reports(child) == []


@pytest.mark.slow
@pytest.mark.parametrize("server", WITHOUT_RUN)
def test_a_server_can_name_our_loop_itself(server: str, serve: Serve) -> None:
    _, loop = serve([], WITHOUT_RUN[server])
    assert loop == OURS
