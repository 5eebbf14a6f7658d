"""Runs commands under a seccomp filter."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHILD_SECONDS_MAX = 60

Confined = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def confined(tmp_path: Path) -> Confined:
    """confined(filter, *arguments): Python with these arguments under the filter."""

    def run(filter_name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        python = [sys.executable, "-W", "error"]
        command = [*python, str(HERE / "confine.py"), filter_name, *python, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=CHILD_SECONDS_MAX, cwd=tmp_path
        )

    return run


@pytest.fixture
def check(confined: Confined) -> Callable[[str, str], str]:
    """check(filter, name): the output of this check of checks.py, which must succeed silently."""

    def run(filter_name: str, name: str) -> str:
        child = confined(filter_name, str(HERE / "checks.py"), name)
        assert (child.returncode, child.stderr) == (0, "")
        return child.stdout

    return run
