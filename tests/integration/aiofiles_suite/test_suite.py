"""aiofiles' own tests pass with aiopoll.files in its place, but for exceptions.toml.

The suite is taken from its source distribution, which build/ keeps.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

VERSION = "25.1.0"
HERE = Path(__file__).parent
CACHE = HERE.parents[2] / "build" / "suites"
TESTS_MIN = 200
SECONDS_MAX = 200
INI = "[pytest]\nasyncio_mode = auto\naddopts = -p no:cacheprovider -p no:aiopoll_sim\n"


def exceptions() -> dict[str, str]:
    """The tests that need not pass, and why."""
    found = tomllib.loads((HERE / "exceptions.toml").read_text(encoding="utf-8"))["exception"]
    return {entry["test"]: entry["reason"] for entry in found}


@pytest.fixture(scope="module")
def suite() -> Path:
    """The directory of the unpacked tests; skips where they cannot be had."""
    unpacked = CACHE / f"aiofiles-{VERSION}" / "tests"
    if not unpacked.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            ":all:",
        ]
        command += ["-d", str(CACHE), f"aiofiles=={VERSION}"]
        done = subprocess.run(command, capture_output=True, timeout=SECONDS_MAX, check=False)
        if done.returncode != 0:
            pytest.skip("skips.toml: aiofiles' own tests")
        with tarfile.open(CACHE / f"aiofiles-{VERSION}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
    return unpacked


def results(suite: Path, folder: Path, subject: str) -> dict[str, str]:
    """The result of each test, by its name; the suite writes beside its files, so it is copied."""
    shutil.copytree(suite, folder / "tests")
    shutil.copy(HERE / "shim.py", folder / "tests" / "conftest.py")
    (folder / "pytest.ini").write_text(INI)
    command = [sys.executable, "-m", "pytest", "-q", "-c", "pytest.ini", "--junitxml", "out.xml"]
    environment = {**os.environ, "AIOFILES_SUBJECT": subject}
    done = subprocess.run(
        [*command, "tests"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert (folder / "out.xml").exists(), done.stdout + done.stderr
    found = {}
    for case in ET.parse(folder / "out.xml").iter("testcase"):
        state = "passed"
        for kind in ("failure", "error", "skipped"):
            if (child := case.find(kind)) is not None:
                state = kind if kind == "skipped" else f"{kind}: {child.text}"
        module = str(case.get("classname")).removeprefix("tests.")
        found[f"{module}::{case.get('name')}"] = state
    return found


def test_aiofiles_tests_pass_on_our_files(suite: Path, tmp_path: Path) -> None:
    for subject in ("aiofiles", "aiopoll"):
        (tmp_path / subject).mkdir()
    expected = results(suite, tmp_path / "aiofiles", "aiofiles")
    found = results(suite, tmp_path / "aiopoll", "aiopoll")
    assert found.keys() == expected.keys()
    assert len(found) >= TESTS_MIN
    # As root some of its tests fail with aiofiles itself.
    passing = [name for name, state in expected.items() if state == "passed"]
    failed = {name: found[name] for name in passing if found[name] != "passed"}
    unknown = {name: state for name, state in failed.items() if name not in exceptions()}
    assert not unknown, "\n\n".join(f"{name}:\n{state}" for name, state in unknown.items())
    stale = [name for name in exceptions() if name in passing and name not in failed]
    assert not stale, "these pass: they are no exceptions"
