"""Builds the compiled modules of aiopoll._core; everything else is in pyproject.toml.

AIOPOLL_SANITIZE=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer, and
AIOPOLL_DEBUG=1 with the invariant checks of the debug build (`make test-asan` sets both).
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

CORE = Path("src/aiopoll/_core")
HEADERS = sorted(str(path) for path in CORE.glob("c/*.h"))

compile_args = ["-O2", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wno-unused-parameter"]
link_args: list[str] = []
if os.environ.get("AIOPOLL_DEBUG") != "1":
    compile_args += ["-DCYTHON_WITHOUT_ASSERTIONS"]
if os.environ.get("AIOPOLL_SANITIZE") == "1":
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    compile_args += [*sanitize, "-g", "-O1", "-fno-omit-frame-pointer"]
    link_args += sanitize

extensions = [
    Extension(
        f"aiopoll._core.{source.stem}",
        [str(source)],
        include_dirs=[str(CORE / "c")],
        depends=[*HEADERS, *(str(path) for path in CORE.glob("*.pxd"))],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    for source in sorted(CORE.glob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        extensions,
        include_path=["src"],
        # nonecheck: an object that was never initialised raises where it lacks something.
        compiler_directives={"language_level": "3", "binding": True, "nonecheck": True},
    )
)
