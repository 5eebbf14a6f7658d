"""Builds CPython for musl, the C library of Alpine: what `make wheels` runs a musllinux wheel in.

Facts.  An interpreter loads modules for its own C library alone.  Debian has musl (package musl),
and the sources of CPython, OpenSSL and zlib, but no interpreter for musl.  zig's musl is newer
than Debian's, and lets programs be linked with functions that the older one has not.
Rule.  The sources come from the releases of Debian in tools/apt.py, through apt, which checks their
signatures; zig's clang builds them in build/musl, once.  None of Debian's patches is applied.
Limit.  A Python that none of these releases has is not built, and has no musllinux wheel.
Cost.  Ten minutes for OpenSSL and the first Python, four for each more; 300 MB each.
"""

import argparse
import os
import sys
from pathlib import Path

from tools.apt import RELEASES, Apt
from tools.commands import output as run

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "musl"
LOADER = Path("/lib/ld-musl-x86_64.so.1")
OF_LIBRARIES = "bookworm"  # one that each of the Pythons works with
SOURCES = Apt(FOLDER / "apt", RELEASES, "deb-src")
COMPILER = f"{sys.executable} -m ziglang cc -target x86_64-linux-musl"
FLAGS = "-O1 -g0 -fPIC -fno-sanitize=all -Wno-date-time"
# What musl has since 1.2.5 only.
NEW_IN_MUSL = ("preadv2", "pwritev2", "statx")


def needed(package: str) -> Path:
    folder = SOURCES.source(package)
    if folder is None:
        raise SystemExit(f"musl: no release of Debian has the sources of {package}")
    return folder


def build_libraries() -> Path:
    """The prefix where static OpenSSL and zlib are."""
    prefix = FOLDER / "libraries"
    if not (prefix / "done").exists():
        jobs = f"-j{len(os.sched_getaffinity(0))}"
        zlib = needed(f"zlib/{OF_LIBRARIES}")
        run("./configure", "--static", f"--prefix={prefix}", cwd=zlib, CC=COMPILER, CFLAGS=FLAGS)
        run("make", jobs, "install", cwd=zlib)
        openssl = needed(f"openssl/{OF_LIBRARIES}")
        options = ("no-shared", "no-tests", "no-engine", "no-asm", "no-dso", "no-async")
        layout = (f"--prefix={prefix}", "--libdir=lib")
        command = ("./Configure", "linux-x86_64", *options, *layout)
        run(*command, cwd=openssl, CC=COMPILER, CFLAGS=FLAGS)
        run("make", jobs, "build_libs", cwd=openssl)
        run("make", "install_dev", cwd=openssl)
        (prefix / "done").touch()
    return prefix


def interpreter(version: str) -> Path | None:
    """CPython of a version, "3.13", which is built if need be; None if there are no sources."""
    if not LOADER.exists():
        raise SystemExit(f"musl: {LOADER} not found: apt-get install musl")
    FOLDER.mkdir(parents=True, exist_ok=True)
    prefix = FOLDER / f"python{version}"
    python = prefix / "bin" / f"python{version}"
    if not (prefix / "done").exists():
        source = SOURCES.source(f"python{version}")
        if source is None:
            return None
        libraries = build_libraries()
        run(
            "./configure",
            *(f"--prefix={prefix}", f"--with-openssl={libraries}"),
            # config.guess asks the C library of this machine; 3.11 names its modules by the answer.
            *("--build=x86_64-pc-linux-musl", "--host=x86_64-pc-linux-musl"),
            *("--without-ensurepip", "--disable-test-modules"),
            *(f"ac_cv_func_{name}=no" for name in NEW_IN_MUSL),
            cwd=source,
            CC=f"{COMPILER} -dynamic",
            CFLAGS=FLAGS,
            CPPFLAGS=f"-I{libraries}/include",
            LDFLAGS=f"-L{libraries}/lib",
            PKG_CONFIG="false",
        )
        # 3.11 asks dpkg-architecture for where libraries are, and would take those for glibc.
        run("make", f"-j{len(os.sched_getaffinity(0))}", cwd=source, DEB_HOST_MULTIARCH="none")
        run("make", "altinstall", cwd=source, DEB_HOST_MULTIARCH="none")
        check(python)
        (prefix / "done").touch()
    return python


def check(python: Path) -> None:
    """SystemExit unless the interpreter is of musl, with the modules that matter."""
    program = (
        "import _socket, _ssl, select, zlib, sysconfig;"
        "assert sysconfig.get_config_var('EXT_SUFFIX').endswith('-x86_64-linux-musl.so')"
    )
    run(python, "-I", "-c", program, cwd=FOLDER)
    if str(LOADER).encode() not in python.read_bytes():
        raise SystemExit(f"musl: {python} is not linked to {LOADER}")


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("version", nargs="+", help="such as 3.13")
    for version in parser.parse_args().version:
        print(interpreter(version) or f"no release of Debian has the sources of Python {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
