"""Counts taken before and after: this process's descriptors, rings and slots."""

import re
from pathlib import Path

RING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) .*\[aio\]", re.MULTILINE)
# A Context of these takes more than a page: rings() distinguishes its ring from a small one.
MANY_SLOTS = 8000


def rings() -> list[int]:
    """The sizes of the AIO rings of this process, one for each of its live contexts.

    io_destroy(2) gives slots and ring back; /proc/sys/fs/aio-nr counts other processes' too.
    """
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    return sorted(int(end, 16) - int(start, 16) for start, end in RING.findall(maps))
