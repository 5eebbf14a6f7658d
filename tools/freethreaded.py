"""Runs the package's tests in a Python without a GIL: `make test-freethreaded`.

Facts.  Debian has no Python that was configured with --disable-gil (PEP 703), but the source of
each: CPython's own archive.  Few packages have wheels for such a Python.
Rule.  build/freethreaded holds the source, the Python, an environment and the package that is built
for it; each is made once, the package anew each time.  Tests of other programs, and of what the
other environment checks (lint, types, packaging), are left out.  `make test-tsan` builds Python and
package with ThreadSanitizer, and runs the tests of threads: a race that it reports fails them, but
for those in tests/tsan.supp and in CPython's own lists.
Why.  The GIL hides races from every other test.
Cost.  Some minutes and 600 MiB, once.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.apt import RELEASES, Apt
from tools.commands import need, output

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "freethreaded"
SOURCES = Apt(BUILD / "apt", RELEASES, "deb-src")
TESTS = ("aio", "reactor", "loop", "files", "leaks", "stress")
TESTS_OF_THREADS = (
    "files/test_threads.py",
    "loop/test_other_threads.py",
    "loop/test_parallel_loops.py",
)
REPORTS = BUILD / "reports"
# CPython's lists of its own races.
LISTS = ("suppressions.txt", "suppressions_free_threading.txt")


class Build:
    """A Python of a version without a GIL, an environment for it, and the package."""

    def __init__(self, version: str, sanitized: bool) -> None:
        self.version = version
        self.sanitized = sanitized
        name = f"{version}-tsan" if sanitized else version
        self.prefix, self.objects, self.environment, self.package = (
            BUILD / f"{what}-{name}" for what in ("python", "objects", "environment", "package")
        )
        self.python = self.environment / "bin" / "python"
        source = SOURCES.source(f"python{version}")
        if source is None:
            raise SystemExit(f"no release of Debian has the sources of Python {version}")
        self.source = source

    def run(self, *command: str | Path, cwd: Path = ROOT) -> None:
        sanitized = {"AIOPOLL_SANITIZE": "thread"} if self.sanitized else {}
        # What the build itself runs is not what is tested.
        output(*command, cwd=cwd, TSAN_OPTIONS="report_bugs=0", **sanitized)

    def build_python(self) -> None:
        if (self.prefix / ".done").exists():
            return
        shutil.rmtree(self.objects, ignore_errors=True)
        self.objects.mkdir(parents=True)
        options = ["--disable-gil", f"--prefix={self.prefix}"]
        if self.sanitized:
            options += ["--with-thread-sanitizer"]
        self.run(self.source / "configure", "-q", *options, cwd=self.objects)
        self.run("make", "-s", f"-j{len(os.sched_getaffinity(0))}", cwd=self.objects)
        # Under ThreadSanitizer byte code of the whole library would take a quarter of an hour.
        compiler = ["PYTHON_FOR_BUILD=true"] if self.sanitized else []
        self.run("make", "-s", "install", *compiler, cwd=self.objects)
        shutil.rmtree(self.objects)
        (self.prefix / ".done").touch()

    def make_environment(self) -> None:
        if (self.environment / ".done").exists():
            return
        shutil.rmtree(self.environment, ignore_errors=True)
        self.run(self.prefix / "bin" / f"python{self.version}", "-m", "venv", self.environment)
        pip = (self.python, "-m", "pip", "install", "--quiet")
        self.run(*pip, "--upgrade", "pip>=25.1")
        # The newest version that has a wheel for it.
        self.run(*pip, "--only-binary", ":all:", "--group", "build", "--group", "core-test")
        (self.environment / ".done").touch()

    def build_package(self) -> None:
        folders = ("--build-base", f"{self.package}-objects", "--build-lib", self.package)
        self.run(self.python, "setup.py", "--quiet", "build", *folders)

    def variables(self) -> dict[str, str]:
        """What the tests find in their environment."""
        variables = {"PYTHONPATH": str(self.package)}
        if self.sanitized:
            lists = [ROOT / "tests" / "tsan.supp"]
            lists += [self.source / "Tools" / "tsan" / name for name in LISTS]
            found = "\n".join(path.read_text("utf-8") for path in lists if path.exists())
            suppressions = BUILD / "tsan.supp"
            suppressions.write_text(found, encoding="utf-8")
            variables["TSAN_OPTIONS"] = (
                f"suppressions={suppressions} exitcode=66 die_after_fork=0 log_path={REPORTS}/race"
            )
        return variables


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the tests in a Python without a GIL.")
    parser.add_argument("--python", default="3.13", help="the version")
    parser.add_argument("--processes", default="2", help="that share the tests")
    parser.add_argument("--sanitize", action="store_true", help="with ThreadSanitizer")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, or tests")
    options = parser.parse_args()
    need("openssl", "openssl")  # certificates: cryptography has no wheel for Python 3.13
    build = Build(options.python, options.sanitize)
    build.build_python()
    build.make_environment()
    build.build_package()
    arguments = list(options.pytest)
    if not any(argument.startswith("tests") for argument in arguments):
        tests = TESTS_OF_THREADS if options.sanitize else TESTS
        arguments += [f"tests/{test}" for test in tests]
    command = [build.python, "-m", "tests.support.parallel", options.processes, *arguments]
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir()
    status = subprocess.run(command, cwd=ROOT, env={**os.environ, **build.variables()}).returncode
    for report in REPORTS.iterdir():  # pytest shows what a test prints only if it fails
        print(report.read_text("utf-8", "replace"))
    return status


if __name__ == "__main__":
    sys.exit(main())
