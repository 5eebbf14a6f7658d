"""A small clone whose package is asyncio's loop under our name: it is built in no time."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SETUP = """\
import sys
from pathlib import Path
Path("src/aiopoll/built").write_text(" ".join(sys.argv[1:3]))
"""
PACKAGE = """\
import asyncio
from types import SimpleNamespace

def probe():
    return SimpleNamespace(aio_poll=True, reason=None)

new_event_loop = asyncio.new_event_loop
"""


@dataclass(frozen=True)
class Clone:
    path: Path

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],
            cwd=self.path,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    clone = Clone(tmp_path / "clone")
    clone.path.mkdir()
    clone.git("init", "--quiet")
    clone.write(".gitignore", "build/\n__pycache__/\n")
    clone.write("setup.py", SETUP)
    clone.write("src/aiopoll/__init__.py", PACKAGE)
    clone.write("src/aiopoll/kept.py", "")
    clone.commit("first")
    return clone
