"""Servers of examples/kv.py that a test starts and ends, and their clients."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from .children import Child, python

KV = Path(__file__).parents[2] / "examples" / "kv.py"

Start = Callable[..., tuple[Child, int]]


def servers_in(tmp_path: Path) -> Iterator[Start]:
    """Yields a function that starts a server on the test's directory: (the Child, its port)."""
    children: list[Child] = []

    def start(
        *options: str, directory: Path = tmp_path / "kv", command: list[str | Path] | None = None
    ) -> tuple[Child, int]:
        if command is None:
            command = python(KV, "--port", "0", "--directory", directory, "--segment-mib", "1")
        child = Child([*command, *options], cwd=tmp_path)
        children.append(child)
        return child, int(child.wait_for("ready on").rpartition(":")[2])

    yield start
    for child in children:
        child.kill()


def end(child: Child) -> None:
    """Ends a server as it should end."""
    assert child.finish(signal.SIGTERM) == 0, child.output
    child.check_quiet()


def client_of(port: int, **options: Any) -> redis.Redis:
    return redis.Redis(port=port, **options)
