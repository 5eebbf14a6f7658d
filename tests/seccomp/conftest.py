"""Runs Python under a seccomp filter, or in a container."""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHILD_SECONDS_MAX = 60
PYTHON = [sys.executable, "-W", "error"]

# Namespaces and mounts, as container.py needs them.
TRIAL = ["unshare", "--mount", "--pid", "--mount-proc", "--net", "--ipc", "--uts", "--fork"]
AS_USER = ["--user", "--map-root-user"] if os.geteuid() != 0 else []
MOUNT = ["mount", "-t", "tmpfs", "none", "/mnt"]

Confined = Callable[..., "subprocess.CompletedProcess[str]"]


def succeeds(command: list[str]) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=CHILD_SECONDS_MAX, cwd=directory
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0


@functools.cache
def may_make_containers() -> bool:
    return succeeds([*TRIAL, *AS_USER, *MOUNT])


@functools.cache
def gvisor_runs_python() -> bool:
    """Debian's is at times built by a Go that it does not work with."""
    return succeeds([*container("docker", "runsc"), "-c", ""])


def container(engine: str, runtime: str) -> list[str]:
    return [*PYTHON, str(HERE / "container.py"), engine, runtime, *PYTHON]


def python_in(place: str) -> list[str]:
    """Python in that place; skips the test where there is none."""
    engine, _, runtime = place.partition(" in ")
    if not runtime:
        return [*PYTHON, str(HERE / "confine.py"), place, *PYTHON]
    if not shutil.which(runtime, path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip(reason="skips.toml: containers: no runtime")
    if not may_make_containers():
        pytest.skip(reason="skips.toml: containers: no namespaces")
    if runtime == "runsc" and not gvisor_runs_python():
        pytest.skip(reason="skips.toml: containers: a gVisor that runs no Python")
    return container(engine, runtime)


@pytest.fixture
def confined(tmp_path: Path) -> Confined:
    """confined(place, *arguments): Python with these arguments in that place.

    The place is a filter as confine.py takes it, or a container, as in "docker in runc".
    """

    def run(place: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*python_in(place), *arguments],
            capture_output=True,
            text=True,
            timeout=CHILD_SECONDS_MAX,
            cwd=tmp_path,
        )

    return run


@pytest.fixture
def check(confined: Confined) -> Callable[[str, str], str]:
    """check(place, name): the output of this check of checks.py, which must succeed silently."""

    def run(place: str, name: str) -> str:
        child = confined(place, str(HERE / "checks.py"), name)
        assert (child.returncode, child.stderr) == (0, "")
        return child.stdout

    return run
