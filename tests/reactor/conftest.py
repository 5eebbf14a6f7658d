"""Programs in C that try the rules of the reactor's headers."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "aiopoll"
INCLUDES = [f"-I{PACKAGE / room / 'c'}" for room in ("aio", "reactor")]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Callable[[str], str]]:
    """Compiles a program, and returns a function of its input that returns its output."""
    compiler = shutil.which("gcc")
    assert compiler, "apt-get install gcc"

    def compile_it(text: str) -> Callable[[str], str]:
        folder = tmp_path_factory.mktemp("program")
        (folder / "program.c").write_text(text, encoding="ascii")
        command = [compiler, "-D_GNU_SOURCE", "-Wall", "-Werror", *INCLUDES]
        subprocess.run([*command, "-o", folder / "program", folder / "program.c"], check=True)

        def run(given: str) -> str:
            return subprocess.run(
                [folder / "program"], input=given, check=True, capture_output=True, text=True
            ).stdout

        return run

    return compile_it
