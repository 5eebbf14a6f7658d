"""Where a tool is missing, make names the Debian package that has it."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.subprocess

ROOT = Path(__file__).resolve().parents[2]


def check_machine(*variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT), "check-machine", *variables],
        timeout=60,
        capture_output=True,
        text=True,
    )


def python_that_lacks(word: str, tmp_path: Path) -> str:
    """An interpreter that fails on each one-line program with `word` in it."""
    path = tmp_path / "python"
    python = shlex.quote(sys.executable)
    path.write_text(f'#!/bin/sh\ncase "$*" in *{word}*) exit 1;; esac\nexec {python} "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_a_machine_with_all_of_it_passes() -> None:
    assert check_machine(f"PYTHON={sys.executable}").returncode == 0


@pytest.mark.parametrize(
    ("word", "package"),
    [("ensurepip", "python3-venv"), ("Python.h", "python3-dev"), ("version_info", "3.11")],
)
def test_missing_part_of_python_is_named(word: str, package: str, tmp_path: Path) -> None:
    done = check_machine(f"PYTHON={python_that_lacks(word, tmp_path)}")
    assert done.returncode != 0
    assert package in done.stderr


@pytest.mark.parametrize(
    ("variable", "package"),
    [("CC=no-such-compiler", "apt-get install gcc"), ("PYTHON=no-such-python", "python3")],
)
def test_a_missing_program_is_named(variable: str, package: str) -> None:
    variables = [variable] if variable.startswith("PYTHON") else [f"PYTHON={sys.executable}"]
    done = check_machine(variable, *variables)
    assert done.returncode != 0
    assert package in done.stderr
