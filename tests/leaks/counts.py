"""What is counted before and after: descriptors, rings, the machine's slots."""

import os
from pathlib import Path

from aiopoll import Context

# fs.aio-nr is of the whole machine, where others may run: a Context this large stands out.
MANY_SLOTS = 8000


def rings() -> int:
    """The AIO rings mapped into this process: one for each of its live contexts."""
    return Path("/proc/self/maps").read_text(encoding="utf-8").count("[aio]")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def read_aio_nr() -> int:
    return int(Path("/proc/sys/fs/aio-nr").read_text(encoding="ascii"))


def slots_are_back(slots: int) -> bool:
    """Whether aio-nr is no longer a large Context above `slots`; others may hold one a while."""
    for _ in range(100):
        if read_aio_nr() < slots + MANY_SLOTS:
            return True
        Context(1).close()  # takes some tens of milliseconds in the kernel
    return False
