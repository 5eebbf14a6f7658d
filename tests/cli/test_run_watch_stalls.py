"""`aiopoll run --watch-stalls`: in the program, in the Pythons that it starts, and nowhere else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.subprocess

PROGRAM = """
import asyncio, os, subprocess, sys, time

async def main():
    loop = asyncio.get_running_loop()
    if os.environ.get("AIOPOLL_WATCH_STALLS"):
        while not loop.stall_count:
            time.sleep(0.3)
    print(sys.argv[1:], os.environ.get("AIOPOLL_WATCH_STALLS"), flush=True)

if sys.argv[-1] != "child":
    subprocess.run([sys.executable, __file__, "child"], check=True)
asyncio.run(main())
"""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if k != "AIOPOLL_WATCH_STALLS"}
    return subprocess.run(
        [sys.executable, "-m", "aiopoll", "run", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
        check=False,
    )


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        (["--watch-stalls"], "0.1"),
        (["--watch-stalls=0.2"], "0.2"),
        (["--watch-stalls", "0.2"], "0.2"),
        (["--metrics", "0", "--watch-stalls"], "0.1"),
    ],
)
def test_the_program_and_its_children_are_watched(
    options: list[str], limit: str, program: str
) -> None:
    done = run(*options, program)
    assert done.stdout.splitlines() == [f"['child'] {limit}", f"[] {limit}"], done.stderr
    reports = [line for line in done.stderr.splitlines() if "has been blocked" in line]
    assert len(reports) == 2
    for report in reports:
        assert f"{program}:8 in main: time.sleep(0.3); it waits in clock_nanosleep" in report


def test_without_the_option_none_is_watched(program: str) -> None:
    done = run(program)
    assert done.stdout.splitlines() == ["['child'] None", "[] None"]
    assert done.stderr == ""


def test_arguments_of_the_program_stay_its_own(program: str) -> None:
    done = run(program, "--watch-stalls")
    assert done.stdout.splitlines()[-1] == "['--watch-stalls'] None", done.stderr


@pytest.mark.parametrize("limit", ["soon", "-1", "nan", ""])
def test_a_bad_limit_is_one_line(limit: str, program: str) -> None:
    done = run(f"--watch-stalls={limit}", program)
    assert done.returncode == 2
    assert "argument --watch-stalls: " in done.stderr
    assert "Traceback" not in done.stderr
