"""Libraries in C that stand between a program and the kernel, by LD_PRELOAD."""

import os
import shlex
import subprocess
from pathlib import Path


def built_preload(source: Path, folder: Path) -> Path:
    """The shared library of one C file, in the folder."""
    library = folder / f"{source.stem}.so"
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    command = [*compiler, "-shared", "-fPIC", "-O1", str(source), "-o", str(library), "-ldl"]
    subprocess.run(command, check=True, timeout=120)
    return library
