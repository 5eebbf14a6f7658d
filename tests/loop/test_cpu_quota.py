"""The quota of the control group, as version 1 and 2 have it, and what it turns off."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiopoll.loop import backend, cpu_quota


def group(root: Path, name: str, **files: str) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file.replace("__", ".")).write_text(text, encoding="ascii")


def quota(tmp_path: Path, membership: str) -> float:
    (tmp_path / "membership").write_text(membership, encoding="ascii")
    return cpu_quota.quota_cpus(tmp_path / "membership", tmp_path)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [("max 100000\n", math.inf), ("50000 100000\n", 0.5), ("nonsense", math.inf)],
)
def test_quota_of_version_2(tmp_path: Path, text: str, allowed: float) -> None:
    group(tmp_path, "a/b", cpu__max=text)
    assert quota(tmp_path, "0::/a/b\n") == allowed


def test_the_smallest_quota_of_all_groups_above_counts(tmp_path: Path) -> None:
    group(tmp_path, "a/b", cpu__max="300000 100000")
    group(tmp_path, "a", cpu__max="150000 100000")
    assert quota(tmp_path, "0::/a/b\n") == 1.5
    group(tmp_path, ".", cpu__max="25000 100000")  # a container's root is a group
    assert quota(tmp_path, "0::/a/b\n") == 0.25


@pytest.mark.parametrize(("quota_us", "allowed"), [("-1", math.inf), ("20000", 0.2)])
def test_quota_of_version_1(tmp_path: Path, quota_us: str, allowed: float) -> None:
    files = {"cpu__cfs_quota_us": quota_us, "cpu__cfs_period_us": "100000"}
    group(tmp_path, "cpu,cpuacct/a", **files)
    membership = "3:memory:/m\n2:cpu,cpuacct:/a\n1:cpuset:/a\n0::/\n"
    assert quota(tmp_path, membership) == allowed


def test_no_control_group_is_no_quota(tmp_path: Path) -> None:
    assert quota(tmp_path, "") == quota(tmp_path, "0::/gone\n") == math.inf
    assert cpu_quota.quota_cpus(tmp_path / "none", tmp_path) == math.inf


@pytest.mark.parametrize(
    ("cpus", "allowed", "looks"), [(2, 1, True), (2, 0.9, False), (1, 4, False)]
)
def test_busy_polling_takes_a_whole_cpu(
    cpus: int, allowed: float, looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend.os, "cpu_count", lambda: cpus)
    monkeypatch.setattr(backend, "quota_cpus", lambda: allowed)
    assert (backend.busy_poll_ns("auto", "auto") != 0) == looks
    assert backend.busy_poll_ns(0.001, "auto") == 1_000_000  # asked for


@pytest.fixture
def half_a_cpu() -> Iterator[Path]:
    """A control group with that quota: the file that takes its members."""
    version_1, version_2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    root = version_1 if version_1.exists() else version_2
    folder = root / f"aiopoll-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip(reason="skips.toml: control groups")
    try:
        if root == version_1:
            (folder / "cpu.cfs_quota_us").write_text("50000", encoding="ascii")
            (folder / "cpu.cfs_period_us").write_text("100000", encoding="ascii")
        else:
            (folder / "cpu.max").write_text("50000 100000", encoding="ascii")
        yield folder / "cgroup.procs"
    except OSError:
        pytest.skip(reason="skips.toml: control groups")
    finally:
        folder.rmdir()


@pytest.mark.subprocess
def test_a_loop_in_a_group_with_half_a_cpu(half_a_cpu: Path) -> None:
    program = "from aiopoll.loop import backend, cpu_quota"
    program += "; print(cpu_quota.quota_cpus(), backend.busy_poll_ns('auto', 'aio'))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        ["sh", "-c", 'echo $$ > "$0" && exec "$@"', half_a_cpu, *command],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0.5 0\n"
