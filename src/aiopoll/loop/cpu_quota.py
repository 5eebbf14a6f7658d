"""How many CPUs the quota of its control group allows a process.

Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst (cpu.cfs_*).
A group may use no more than each of those that it is in.
"""

import math
from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNTED = Path("/sys/fs/cgroup")


def quota_cpus(membership: Path = MEMBERSHIP, mounted: Path = MOUNTED) -> float:
    """CPUs that the quotas of the groups allow; infinity where there is none to be read.

    membership: a process's /proc/PID/cgroup.
    mounted: where the control groups are.
    """
    try:
        lines = membership.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return math.inf
    allowed = math.inf
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mounted / controllers
        for folder in above(root, root / group.strip("/")):
            allowed = min(allowed, quota_of(folder, v2=not controllers))
    return allowed


def above(root: Path, folder: Path) -> Iterator[Path]:
    """The folder and those that it is in, up to the root."""
    while True:
        yield folder
        if folder == root:
            return
        folder = folder.parent


def quota_of(folder: Path, *, v2: bool) -> float:
    """CPUs that the group's own quota allows."""
    try:
        if v2:
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        return math.inf if quota == "max" or int(quota) < 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf
