"""Builds the compiled modules, one for each .pyx of the package; the rest is in pyproject.toml.

AIOPOLL_SANITIZE=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer, and
AIOPOLL_DEBUG=1 with the invariant checks of the debug build (`make test-asan` sets both).
AIOPOLL_SANITIZE=thread builds with ThreadSanitizer (`make test-tsan` sets it).
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SRC = Path("src")
HEADERS = sorted(SRC.rglob("*.h"))
SHARED = "aiopoll._cyutility"

compile_args = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wno-unused-parameter"]
compile_args += ["-Wno-missing-field-initializers"]  # of Cython's types, which Python 3.15 extends
link_args: list[str] = []
if not any(flag.startswith("-O") for flag in os.environ.get("CFLAGS", "").split()):
    compile_args += ["-O2"]
if os.environ.get("AIOPOLL_DEBUG") != "1":
    compile_args += ["-DCYTHON_WITHOUT_ASSERTIONS"]
    # The variables of an assertion stay when it goes; the debug build warns of others.
    compile_args += ["-Wno-unused-variable", "-Wno-unused-but-set-variable"]
if os.environ.get("AIOPOLL_SANITIZE") == "1":
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    compile_args += [*sanitize, "-g", "-O1", "-fno-omit-frame-pointer"]
    link_args += sanitize
elif os.environ.get("AIOPOLL_SANITIZE") == "thread":
    compile_args += ["-fsanitize=thread", "-g", "-O1", "-fno-omit-frame-pointer"]
    link_args += ["-fsanitize=thread"]


# No event of a socket goes through these: their size counts, which the wheels have to carry.
COLD = (
    *("accept", "buffers", "context", "context_cache", "duplicate", "epoll_set", "fork_signals"),
    *("iocb", "open_file", "own_ring", "pipe", "routes", "spawn", "table", "watchdog"),
)
if "AIOPOLL_SANITIZE" in os.environ or "-O0" in os.environ.get("CFLAGS", "").split():
    COLD = ()


class BuildExtensions(build_ext):
    """Runs Cython where extensions are built: an sdist and metadata need none of its output."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = len(os.sched_getaffinity(0))

    def build_extensions(self) -> None:
        done = cythonize(
            self.extensions,
            nthreads=self.parallel,
            force=self.force,
            quiet=self.verbose == 0,
            include_path=[str(SRC)],
            # What all compiled modules have in common, once.
            shared_utility_qualified_name=SHARED,
            compiler_directives={
                "language_level": "3",
                "binding": True,
                # An object that was never initialised raises where it lacks something.
                "nonecheck": True,
                # aio/c/free_threading.h has the rule.
                "freethreading_compatible": True,
            },
        )
        sources = {extension.name: extension.sources for extension in done}
        for extension in self.extensions:
            extension.sources = sources[extension.name]
        super().build_extensions()


if __name__ == "__main__":  # the processes that run Cython may import this file too
    setup(
        cmdclass={"build_ext": BuildExtensions},
        # The kernel and the simulator are Python, and are all that other systems can use.
        ext_modules=[]
        if sys.platform != "linux"
        else [
            Extension(
                SHARED,
                [str(SRC.joinpath(*SHARED.split(".")).with_suffix(".c"))],
                extra_compile_args=compile_args,
                extra_link_args=link_args,
            )
        ]
        + [
            Extension(
                ".".join(source.relative_to(SRC).with_suffix("").parts),
                [str(source)],
                include_dirs=sorted({str(header.parent) for header in HEADERS}),
                depends=[str(path) for path in (*HEADERS, *sorted(SRC.rglob("*.pxd")))],
                extra_compile_args=[*compile_args, *(["-Os"] if source.stem in COLD else [])],
                extra_link_args=link_args,
            )
            for source in sorted(SRC.rglob("*.pyx"))
        ],
    )
