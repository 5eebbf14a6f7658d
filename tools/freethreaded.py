"""Runs the package's tests in a Python without a GIL: `make test-freethreaded`.

Facts.  Debian has no Python that was configured with --disable-gil (PEP 703), but the source of
each: CPython's own archive.  apt verifies what it downloads; sources need neither root nor a line
in this machine's lists.  Few packages have wheels for such a Python.
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

sys.path.insert(0, str(Path(__file__).resolve().parent))

from debian import mirror

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "freethreaded"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
TESTS = ("aio", "reactor", "loop", "files", "leaks", "stress")


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    subprocess.run([str(word) for word in command], cwd=cwd, check=True)


def download(suite: str, version: str) -> Path:
    """The unpacked source of a suite's Python."""
    target = BUILD / f"source-{version}"
    if (target / "configure").exists():
        return target
    apt = BUILD / "apt"
    shutil.rmtree(target, ignore_errors=True)
    for folder in (apt / "lists/partial", apt / "cache/archives/partial", target):
        folder.mkdir(parents=True, exist_ok=True)
    (apt / "sources.list").write_text(
        f"deb-src [signed-by={KEYS}] {mirror()} {suite} main\n", encoding="utf-8"
    )
    options = [
        f"-oDir::Etc::SourceList={apt}/sources.list",
        "-oDir::Etc::SourceParts=/dev/null",
        f"-oDir::State::Lists={apt}/lists",
        f"-oDir::Cache={apt}/cache",
        "-oAPT::Sandbox::User=",
    ]
    run("apt-get", *options, "-qq", "update")
    run("apt-get", *options, "-qq", "source", "--download-only", f"python{version}", cwd=apt)
    (archive,) = apt.glob(f"python{version}_*.orig.tar.xz")
    run("tar", "-xJf", archive, "--strip-components=1", "-C", target)
    return target


def build_python(suite: str, version: str) -> Path:
    """The interpreter of an environment that has what builds and tests the package."""
    source = download(suite, version)
    prefix, objects, environment = (
        BUILD / f"{what}-{version}" for what in ("python", "objects", "environment")
    )
    if not (prefix / ".done").exists():
        shutil.rmtree(objects, ignore_errors=True)
        objects.mkdir(parents=True)
        run(source / "configure", "-q", "--disable-gil", f"--prefix={prefix}", cwd=objects)
        run("make", "-s", f"-j{len(os.sched_getaffinity(0))}", cwd=objects)
        run("make", "-s", "install", cwd=objects)
        (prefix / ".done").touch()
        shutil.rmtree(objects)
    python = environment / "bin" / "python"
    if not (environment / ".done").exists():
        shutil.rmtree(environment, ignore_errors=True)
        run(prefix / "bin" / f"python{version}", "-m", "venv", environment)
        pip = (python, "-m", "pip", "install", "--quiet")
        run(*pip, "--upgrade", "pip>=25.1")
        # The newest version that has a wheel for it.
        run(*pip, "--only-binary", ":all:", "--group", "build", "--group", "core-test")
        (environment / ".done").touch()
    return python


def build_package(python: Path, version: str) -> Path:
    """The directory that the package was built into."""
    target = BUILD / f"package-{version}"
    objects = BUILD / f"package-objects-{version}"
    run(
        *(python, "setup.py", "--quiet", "build"),
        *("--build-base", objects, "--build-lib", target),
    )
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the tests in a Python without a GIL.")
    parser.add_argument("--python", default="3.13", help="the version: 3.13, 3.14")
    parser.add_argument("--suite", default="trixie", help="the release that has its source")
    parser.add_argument("--processes", default="2", help="that share the tests")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, or tests")
    options = parser.parse_args()
    python = build_python(options.suite, options.python)
    package = build_package(python, options.python)
    arguments = list(options.pytest)
    if not any(argument.startswith("tests") for argument in arguments):
        arguments += [f"tests/{test}" for test in TESTS]
    command = [python, "-m", "tests.support.parallel", options.processes, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    return subprocess.run([str(word) for word in command], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
