"""CPython's own tests of subprocess, with every child born with a pidfd.

_fork_exec is replaced in a process of its own: subprocess's contract is this suite.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

TESTS_MIN = 300
CHILDREN_MIN = 1000

PROGRAM = """
import json, os, subprocess, sys, unittest
from aiopoll.loop.spawn import Spawner

fork_exec = subprocess._fork_exec
names_chdir = "noexec:chdir" in subprocess.Popen._execute_child.__code__.co_consts
with_pidfd = [0, 0]


def spawn(*arguments):
    spawner = Spawner(fork_exec, b"noexec:chdir" if names_chdir else b"noexec")
    pid = spawner(*arguments)
    pidfd = spawner.detach()
    with_pidfd[pidfd >= 0] += 1
    if pidfd >= 0:
        os.close(pidfd)
    return pid


subprocess._fork_exec = spawn
subprocess._USE_POSIX_SPAWN = False
from test import test_subprocess

suite = unittest.defaultTestLoader.loadTestsFromModule(test_subprocess)
result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(suite)
print("\\n" + json.dumps([result.wasSuccessful(), result.testsRun, *with_pidfd]))
"""


def has_cpythons_tests() -> bool:
    try:
        return importlib.util.find_spec("test.test_subprocess") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.skipif(
    not has_cpythons_tests(),
    reason="CPython's own tests: this interpreter ships none (Debian: libpython3-testsuite)",
)
def test_cpythons_tests_pass_with_our_children(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    passed, tests, without, with_pidfd = json.loads(done.stdout.splitlines()[-1])
    assert passed, done.stderr
    assert tests >= TESTS_MIN
    assert with_pidfd >= CHILDREN_MIN
    assert without == 0
