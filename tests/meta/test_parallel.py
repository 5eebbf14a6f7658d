"""make test's processes share the modules: each test runs once, and each failure is named."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

ROOT = Path(__file__).parents[2]
MODULES = ("a", "b", "c", "d", "e")
TESTS = ("one", "two", "three")
MODULE = """\
import os, pytest, signal
from pathlib import Path

@pytest.fixture(scope="session", autouse=True)
def once():
    note("session")
    yield

def note(name):
    with Path(__file__).with_name("log").open("a") as log:
        log.write(f"{os.getpid()} {Path(__file__).stem} {name}\\n")

def test_one(): note("one")
def test_two(): note("two")
def test_three(): note("three")
"""


def in_processes(count: int, directory: Path) -> "subprocess.CompletedProcess[str]":
    (directory / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "tests.support.parallel", str(count), "-q"]
    command += ["-c", str(directory / "pytest.ini"), str(directory)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


def test_processes_share_modules_and_fail_as_one(tmp_path: Path) -> None:
    for name in MODULES:
        (tmp_path / f"test_{name}.py").write_text(MODULE)
    with (tmp_path / "test_c.py").open("a") as module:
        module.write("def test_wrong():\n    print('what it printed')\n    assert not 'a reason'\n")
    done = in_processes(2, tmp_path)
    ran: dict[tuple[str, str], list[str]] = defaultdict(list)
    for line in (tmp_path / "log").read_text().splitlines():
        process, module_name, test = line.split()
        ran[module_name, test].append(process)
    expected = {(f"test_{module}", test) for module in MODULES for test in TESTS}
    assert {key for key in ran if key[1] != "session"} == expected
    assert {len(processes) for processes in ran.values()} == {1}
    for name in MODULES:
        assert len({ran[f"test_{name}", test][0] for test in TESTS}) == 1
    assert done.returncode == 1, done.stdout
    assert "what it printed" in done.stdout
    assert "15 passed, 1 failed" in done.stdout
    assert "FAILED test_c.py::test_wrong" in done.stdout.splitlines()


def test_a_process_that_dies_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(MODULE)
    (tmp_path / "test_b.py").write_text(
        "import os, signal\n\ndef test_end():\n    os.kill(os.getpid(), 9)\n"
    )
    done = in_processes(2, tmp_path)
    assert done.returncode == 9, done.stdout
    assert "ended with status -9" in done.stdout
