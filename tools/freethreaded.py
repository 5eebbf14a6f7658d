"""Runs the package's tests in a Python without a GIL: `make test-freethreaded`.

Facts.  Debian has no Python that was configured with --disable-gil (PEP 703), but the source of
each: CPython's own archive.  Few packages have wheels for such a Python.
Rule.  build/freethreaded holds the source, the Python, an environment and the package that is built
for it; each is made once, the package anew each time.  Tests of other programs, and of what the
other environment checks (lint, types, packaging), are left out.
Why.  The GIL hides races from every other test.
Cost.  Some minutes and 600 MiB, once.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.apt import Apt
from tools.commands import output

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "freethreaded"
SOURCES = Apt(BUILD / "apt", ("bookworm", "trixie", "sid"), "deb-src")
TESTS = ("aio", "reactor", "loop", "files", "leaks", "stress")


def build_python(version: str) -> Path:
    """The interpreter of an environment that has what builds and tests the package."""
    source = SOURCES.source(f"python{version}")
    if source is None:
        raise SystemExit(f"no release of Debian has the sources of Python {version}")
    prefix, objects, environment = (
        BUILD / f"{what}-{version}" for what in ("python", "objects", "environment")
    )
    if not (prefix / ".done").exists():
        shutil.rmtree(objects, ignore_errors=True)
        objects.mkdir(parents=True)
        output(source / "configure", "-q", "--disable-gil", f"--prefix={prefix}", cwd=objects)
        output("make", "-s", f"-j{len(os.sched_getaffinity(0))}", cwd=objects)
        output("make", "-s", "install", cwd=objects)
        (prefix / ".done").touch()
        shutil.rmtree(objects)
    python = environment / "bin" / "python"
    if not (environment / ".done").exists():
        shutil.rmtree(environment, ignore_errors=True)
        output(prefix / "bin" / f"python{version}", "-m", "venv", environment)
        pip = (python, "-m", "pip", "install", "--quiet")
        output(*pip, "--upgrade", "pip>=25.1")
        # The newest version that has a wheel for it.
        output(*pip, "--only-binary", ":all:", "--group", "build", "--group", "core-test")
        (environment / ".done").touch()
    return python


def build_package(python: Path, version: str) -> Path:
    """The directory that the package was built into."""
    target = BUILD / f"package-{version}"
    objects = BUILD / f"package-objects-{version}"
    output(
        *(python, "setup.py", "--quiet", "build"),
        *("--build-base", objects, "--build-lib", target),
    )
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the tests in a Python without a GIL.")
    parser.add_argument("--python", default="3.13", help="the version: 3.13, 3.14")
    parser.add_argument("--processes", default="2", help="that share the tests")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, or tests")
    options = parser.parse_args()
    python = build_python(options.python)
    package = build_package(python, options.python)
    arguments = list(options.pytest)
    if not any(argument.startswith("tests") for argument in arguments):
        arguments += [f"tests/{test}" for test in TESTS]
    command = [python, "-m", "tests.support.parallel", options.processes, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    return subprocess.run([str(word) for word in command], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
