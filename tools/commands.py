"""Commands that the tools run, and what these need from Debian."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def output(
    *command: str | Path,
    cwd: Path | None = None,
    without: Sequence[str] = ("PYTHON",),
    **environment: str,
) -> str:
    """What a command prints; SystemExit, with all of it on stderr, where it fails.

    Variables of the environment that begin with one of `without` are not passed on.
    """
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(tuple(without))
    }
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}")
    return done.stdout


def need(program: str, package: str) -> str:
    """The path of a program; root installs what lacks, others get SystemExit that names it."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    if found := shutil.which(program, path=path):
        return found
    install = ("apt-get", "install", "-qq", "-y", "--no-install-recommends", package)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SystemExit(f"{program} not found: {' '.join(install)}")
    output(*install)
    if found := shutil.which(program, path=path):
        return found
    raise SystemExit(f"Debian's package {package} has no {program}")
