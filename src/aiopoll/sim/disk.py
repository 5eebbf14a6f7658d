"""The disk of a host: what of its files survives a crash, and which of its operations fail.

Facts: a write is in the memory of the host until fsync, and a name until fsync of its directory. A
power cut may catch the device in the middle: then some of what was not fsynced is there and some is
not, in no order that a program may rely on, and a page may be new in its first sectors alone.

Rule: an untorn crash leaves what was fsynced, and nothing else. A torn one draws, for each change
of a directory, whether it was kept, and for each file with un-fsynced data how much of it. The
plain value of every draw is the untorn result, so a shrunk tape shows which survivor matters.

    draw                       values
    "n1 rename kept"           whether a directory operation survived; also create, link, unlink …
    "n1 torn log.bin"          nothing of the un-fsynced data, a prefix, a subset of pages, all
    "n1 torn log.bin write"    how many sectors of a direct write on its way reached the device
    "n1 torn log.bin cache"    whether the device's own cache lost the direct writes since a flush
    "n1 fsync delay"           nanoseconds above the shortest; also write, read
    "n1 fsync error"           whether an operation fails with EIO; also write, read, close
    "n1 full", "n1 short write", "n1 slow fsync"

Cost: a file that was fsynced is in memory twice.
Left out: bits that rot, writes to the wrong place.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..kernel.hrtimer import Clock
from ..kernel.inode import Directory, Node, SuperBlock
from ..kernel.ramfs import SECTOR_SIZE, Inode
from ..kernel.recovery import files_on, keep_operations, recover
from ..kernel.uapi import NSEC_PER_SEC, PAGE_SIZE, error
from ..kernel.writeback import Device, DirectoryOperation, Media, Stored, cut_pages

if TYPE_CHECKING:
    from .tape import Tape

DELAY_S = (0.0001, 0.001)
"""The shortest and longest time of an fsync, or of a transfer past the page cache, in seconds."""
SLOW_S = (0.01, 2.0)
"""Those of a slow fsync."""
GRAIN_NS = 1000
"""Delays are drawn in steps of this."""
LOST, PREFIX, SUBSET, KEPT = range(4)
SECTORS = PAGE_SIZE // SECTOR_SIZE


class DiskMedia(Media):
    """The medium of one disk, which draws its delays and errors from the tape."""

    def __init__(self, name: str, tape: Tape, effect: Callable[[str, Node], None]) -> None:
        self.name = name
        self.tape = tape
        self.effect = effect
        self.errors: dict[str, float] = {"read": 0.0, "write": 0.0, "fsync": 0.0, "close": 0.0}
        self.short_writes: float = 0.0
        self.full: float = 0.0
        self.slow_fsync: float = 0.0
        self.delay_s = DELAY_S
        self.waited = False
        """Whether the caller has waited already, without blocking its thread."""

    def delay_ns(self, operation: str, node: Node) -> int:
        """Return how long the device takes."""
        if self.waited:
            return 0
        return self.draw_delay_ns(operation, node)

    def draw_delay_ns(self, operation: str, node: Node) -> int:
        """Draw how long the device takes for `operation`."""
        low, high = self.delay_s
        if operation == "fsync" and self._happens("slow fsync", self.slow_fsync):
            self.effect("slow fsync", node)
            low, high = SLOW_S
        steps = round((high - low) * NSEC_PER_SEC) // GRAIN_NS
        drawn = self.tape.choose(f"{self.name} {operation} delay", steps + 1)
        return round(low * NSEC_PER_SEC) + drawn * GRAIN_NS

    def transfer(self, operation: str, node: Node, count: int) -> int:
        """Return how many of `count` bytes go through. EIO, ENOSPC."""
        if self._happens(f"{operation} error", self.errors[operation]):
            self.effect(f"{operation} error", node)
            raise error(errno.EIO)
        if operation != "write":
            return count
        if self._happens("full", self.full):
            self.effect("full", node)
            raise error(errno.ENOSPC)
        if count > SECTOR_SIZE and self._happens("short write", self.short_writes):
            self.effect("short write", node)
            # Whole sectors, as a direct write needs them.
            most = (count - 1) // SECTOR_SIZE
            return (most - self.tape.choose(f"{self.name} short write size", most)) * SECTOR_SIZE
        return count

    def _happens(self, what: str, probability: float) -> bool:
        return probability > 0 and self.tape.chance(f"{self.name} {what}", probability)


class Disk:
    """The disk of the host `name`. `root` is its file system, a new one after each crash.

    `effects` counts what went wrong, by the words of the draws: a test whose faults never happen
    shows nothing.
    """

    def __init__(self, name: str, tape: Tape, clock: Clock, observe: Callable[..., None]) -> None:
        self.name = name
        self.tape = tape
        self.observe = observe
        self.effects: Counter[str] = Counter()
        self.media: DiskMedia = DiskMedia(name, tape, self._effect)
        self.root: SuperBlock = SuperBlock(device=Device(self.media))
        self.root.now_ns = lambda: clock.now_ns + clock.realtime_offset_ns
        self._format()

    def _format(self) -> None:
        """Make the directories that are there before the first start."""
        root, device = self.root.root, self.device
        root.atime_ns = root.mtime_ns = root.ctime_ns = self.root.now_ns()
        for name, mode in (("dev", 0o755), ("tmp", 0o1777)):
            node = Directory(self.root, mode, root)
            root.add(name, node)
            device.record(DirectoryOperation("create", name, [(root, name, node)]))
        device.sync_all(self.root)

    @property
    def device(self) -> Device:
        assert self.root.device is not None
        return self.root.device

    def _effect(self, what: str, node: Node) -> None:
        self.effects[what] += 1
        self.observe("disk", host=self.name, what=what, file=self.path_of(node))

    def path_of(self, node: Node) -> str:
        """Return a path of an inode, for people; "" if it has none any more."""
        waiting: list[tuple[str, Directory]] = [("", self.root.root)]
        if node is self.root.root:
            return "/"
        while waiting:
            path, directory = waiting.pop()
            for name, found in directory.entries.items():
                if found is node:
                    return f"{path}/{name}"
                if isinstance(found, Directory):
                    waiting.append((f"{path}/{name}", found))
        return ""

    def faults(
        self,
        *,
        write_errors: float | None = None,
        read_errors: float | None = None,
        fsync_errors: float | None = None,
        close_errors: float | None = None,
        short_writes: float | None = None,
        full: float | None = None,
        slow_fsync: float | None = None,
        delay: tuple[float, float] | None = None,
        size: int | None = None,
    ) -> None:
        """Change what goes wrong from now on; None leaves a thing as it is.

        The first seven are parts of one: of the writes, reads, fsyncs and closes that fail with
        EIO, of the writes that are cut short, of those that find no space (ENOSPC), of the fsyncs
        that are slow. `delay` has the shortest and longest seconds of an fsync, and of a transfer
        past the page cache. `size` bounds all files together, in bytes. ValueError out of range.
        """
        media = self.media
        rates = {
            "write_errors": write_errors,
            "read_errors": read_errors,
            "fsync_errors": fsync_errors,
            "close_errors": close_errors,
            "short_writes": short_writes,
            "full": full,
            "slow_fsync": slow_fsync,
        }
        for name, rate in rates.items():
            if rate is not None and not 0 <= rate <= 1:
                raise ValueError(f"{name} is from 0 to 1, not {rate}")
            if rate is None:
                continue
            if name.endswith("_errors"):
                media.errors[name.removesuffix("_errors")] = rate
            else:
                setattr(media, name, rate)
        if delay is not None:
            if not 0 <= delay[0] <= delay[1]:
                raise ValueError(f"delay is a shortest and a longest time, not {delay}")
            media.delay_s = delay
        if size is not None:
            self.root.resize(size)

    def durable(self, path: str) -> bytes:
        """Return what a crash would leave of a file now. FileNotFoundError, IsADirectoryError."""
        node: Node = self.root.root
        for name in path.split("/"):
            if not name:
                continue
            entries = self.device.of(node).entries
            if name not in entries:
                raise FileNotFoundError(errno.ENOENT, "not on the device", path)
            node = entries[name]
        if not isinstance(node, Inode):
            raise IsADirectoryError(errno.EISDIR, "no regular file", path)
        return contents(self.device.of(node))

    # The crash

    def crash(self, torn: bool = False) -> None:
        """Cut the power: `root` becomes what the device has. See the module for `torn`."""
        old, device = self.root, self.device
        # What the dead program still does costs no time, and draws nothing.
        device.media = Media()
        self.media.waited = False
        kept = self._surviving_operations(device) if torn else []
        keep_operations(device, kept)
        if torn:
            for path, inode, stored in files_on(device, old.root):
                self._tear(path.rpartition("/")[2], inode, stored)
        self.root = recover(old, Device(self.media))

    def _surviving_operations(self, device: Device) -> list[DirectoryOperation]:
        """Draw which changes of directories the device has; a lost one takes those after it."""
        kept: list[DirectoryOperation] = []
        slots: set[tuple[int, str]] = set()
        # The directories that lost a change, and those that were never made.
        directories: set[int] = set()
        gone: set[int] = set()
        for operation in device.journal:
            builds_on_lost = (
                not slots.isdisjoint(operation.slots)
                or (operation.emptied is not None and id(operation.emptied) in directories)
                or any(id(directory) in gone for directory in operation.directories)
            )
            if not builds_on_lost and self.tape.choose(f"{self.name} {operation.kind} kept", 2):
                kept.append(operation)
                self._survived(f"{operation.kind} kept", operation.name)
                continue
            slots |= operation.slots
            directories.update(map(id, operation.directories))
            if operation.kind == "create":
                gone.update(id(node) for _, _, node in operation.changes)
        return kept

    def _survived(self, what: str, file: str) -> None:
        self.effects[what] += 1
        self.observe("disk", host=self.name, what=what, file=file)

    def _tear(self, name: str, inode: Inode, stored: Stored) -> None:
        """Draw what the device has of one file's un-fsynced data."""
        label = f"{self.name} torn {name}"
        unflushed = self.device.unflushed.get(inode)
        if unflushed and self.tape.choose(f"{label} cache", 2):
            # The device had direct writes in its own cache.
            self._survived("cache lost", name)
            stored.pages.update(unflushed)
        self._tear_writes(label, inode, stored)
        if not (inode.nlink or inode.opens):
            return
        cut = min(inode.cut, inode.size)
        pages = [*inode.unmapped, *inode.dirty_pages]
        if not pages and inode.size == stored.size and cut >= stored.size:
            return
        fate = self.tape.choose(label, 4)
        if fate == LOST:
            return
        self._survived("torn", name)
        if cut < stored.size:
            cut_pages(stored, cut)
        if fate == KEPT:
            for index in pages:
                self._survive(inode, stored, index, SECTORS)
            stored.size = inode.size
        elif fate == PREFIX:
            whole = self.tape.choose(f"{label} pages", len(pages) + 1)
            for index in pages[:whole]:
                self._survive(inode, stored, index, SECTORS)
            if whole < len(pages):
                sectors = self.tape.choose(f"{label} sectors", SECTORS)
                self._survive(inode, stored, pages[whole], sectors)
        else:
            for index in pages:
                sectors = (0, SECTORS, SECTORS // 2)[self.tape.choose(f"{label} page", 3)]
                self._survive(inode, stored, index, sectors)

    @staticmethod
    def _survive(inode: Inode, stored: Stored, index: int, sectors: int) -> None:
        """Put the first `sectors` sectors of a page on the device."""
        page = inode.pages.get(index)
        if page is None or not sectors:
            return
        before = stored.pages.get(index, bytes(PAGE_SIZE))
        end = sectors * SECTOR_SIZE
        stored.pages[index] = bytes(page[:end]) + before[end:]
        reached = min(index * PAGE_SIZE + end, inode.size)
        stored.size = max(stored.size, reached)

    def _tear_writes(self, label: str, inode: Inode, stored: Stored) -> None:
        """Direct writes on their way: a first part of each may be on the device."""
        for target, pos, data in self.device.in_flight.values():
            if target is not inode:
                continue
            count = -(-len(data) // SECTOR_SIZE)
            sectors = self.tape.choose(f"{label} write", count + 1)
            if not sectors:
                continue
            self._survived("torn", label.rpartition(" ")[2])
            for sector in range(sectors):
                at = pos + sector * SECTOR_SIZE
                part = data[sector * SECTOR_SIZE : (sector + 1) * SECTOR_SIZE]
                index, offset = divmod(at, PAGE_SIZE)
                # Blocks that are new to the file are not found again.
                if index in stored.pages and at < stored.size:
                    page = stored.pages[index]
                    stored.pages[index] = page[:offset] + part + page[offset + len(part) :]


def contents(stored: Stored) -> bytes:
    """Return the bytes that the device has of a regular file."""
    data = bytearray(stored.size)
    for index, page in stored.pages.items():
        part = page[: max(stored.size - index * PAGE_SIZE, 0)]
        data[index * PAGE_SIZE : index * PAGE_SIZE + len(part)] = part
    return bytes(data)
