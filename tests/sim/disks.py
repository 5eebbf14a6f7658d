"""A disk with a kernel on it, whose draws a test decides."""

import os
from collections.abc import Iterable
from typing import Any

from aiopoll.kernel import Kernel
from aiopoll.sim.disk import Disk
from aiopoll.sim.tape import Deviation, Replay, Tape

RW = os.O_RDWR | os.O_CREAT


class Machine:
    """One machine; `crash` cuts its power and starts it again.

    `draws` are (label, ordinal, value) of the draws that are not plain.
    """

    def __init__(self, *draws: tuple[str, int, int]) -> None:
        self.strategy = Replay([Deviation(*draw) for draw in draws])
        self.tape = Tape(self.strategy)
        self.seen: list[tuple[str, str]] = []
        self.kernel = Kernel()
        self.clock = self.kernel.sched.clock
        self.disk = Disk("n1", self.tape, self.clock, self.observe)
        self.start()

    def observe(self, kind: str, *, host: str, what: str, file: str) -> None:
        assert (kind, host) == ("disk", "n1")
        self.seen.append((what, file))

    def draw(self, label: str, value: int, ordinal: int | None = None) -> None:
        """Decide the next draw of a label, or that of an ordinal."""
        if ordinal is None:
            ordinal = self.tape.counts.get(label, 0)
        self.strategy.values[label, ordinal] = value

    def start(self) -> None:
        self.kernel = Kernel(sched=self.kernel.sched, root=self.disk.root)

    def crash(self, torn: bool = False) -> None:
        self.disk.crash(torn)
        self.start()

    # Shorter than the calls

    def write(self, path: str, data: bytes, *, pos: int = 0, flags: int = RW) -> int:
        """Write at `pos`, without fsync; returns the descriptor."""
        fd = self.kernel.open(path, flags)
        assert self.kernel.pwrite(fd, data, pos) == len(data)
        return fd

    def save(self, path: str, data: bytes) -> None:
        """Write a file so that it stays."""
        fd = self.write(path, data)
        self.kernel.fsync(fd)
        self.kernel.close(fd)
        self.sync_directory(path.rpartition("/")[0] or "/")

    def sync_directory(self, path: str = "/") -> None:
        fd = self.kernel.open(path)
        self.kernel.fsync(fd)
        self.kernel.close(fd)

    def read(self, path: str) -> bytes:
        fd = self.kernel.open(path)
        data = self.kernel.pread(fd, 1 << 20, 0)
        self.kernel.close(fd)
        return data

    def names(self, path: str = "/") -> list[str]:
        fd = self.kernel.open(path)
        found = sorted(entry.d_name for entry in self.kernel.getdents(fd))
        self.kernel.close(fd)
        return [name for name in found if name not in ("dev", "tmp")]


def labels(draws: Iterable[Any]) -> list[str]:
    return [draw.label for draw in draws]
