"""mm/page-writeback.c, fs/sync.c, fs/jbd2 and block/: what of a file system the device has.

Facts: a write goes to the page cache; fsync(2) brings data and metadata to the device, fdatasync
the data and what is needed to read it back, which includes the size. A direct write goes to the
device, whose own cache may lose it until the next fsync of any file, and its blocks are found again
if they were the file's before. Names are the directory's
data: fsync of the file does not write them. When writeback fails, the pages are marked clean all
the same; each open file reports the error once, and the next fsync succeeds.

Rule: nothing reaches the device by itself, however long it takes. Changes of directories are
operations in an order. One of them is on the device only together with those that it builds on: a
name's earlier changes, the emptying of a directory before its removal. A rename is one operation.
Left out: checksums, journal replay that takes time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .inode import Directory, Node, SuperBlock
from .sched import TASK_UNINTERRUPTIBLE, Scheduler
from .uapi import PAGE_SIZE
from .wait import schedule_hrtimeout

if TYPE_CHECKING:
    from .ramfs import Inode

Change = tuple[Directory, str, Node | None]


class Media:
    """The medium below: how long an operation takes, and whether it fails. This one is perfect.

    `delay_ns` is asked first, and the caller sleeps so long; `transfer` then raises the error or
    returns how many of `count` bytes go through.
    """

    def delay_ns(self, operation: str, node: Node) -> int:
        """Return how long `operation` takes: "read", "write", "fsync" or "close"."""
        return 0

    def transfer(self, operation: str, node: Node, count: int) -> int:
        """Return how many of `count` bytes go through. EIO, ENOSPC."""
        return count


@dataclass(eq=False)
class DirectoryOperation:
    """One change of the tree: `changes` are done together, `emptied` had to be empty before."""

    kind: str
    name: str
    changes: list[Change]
    emptied: Directory | None = None

    @property
    def directories(self) -> list[Directory]:
        return [directory for directory, _, _ in self.changes]

    @property
    def slots(self) -> set[tuple[int, str]]:
        return {(id(directory), name) for directory, name, _ in self.changes}


@dataclass(eq=False)
class Stored:
    """What the device has of one inode; `entries` are a directory's names."""

    mode: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    size: int = 0
    pages: dict[int, bytes] = field(default_factory=dict)
    entries: dict[str, Node] = field(default_factory=dict)
    # How many names on the device and operations in the journal lead to it.
    uses: int = 0


class Device:
    """The device of one file system: what it has, and which directory operations it has not."""

    def __init__(self, media: Media | None = None) -> None:
        self.media: Media = Media() if media is None else media
        self.stored: dict[Node, Stored] = {}
        self.journal: list[DirectoryOperation] = []
        # What was there before the writes that are in the device's own cache alone.
        self.unflushed: dict[Inode, dict[int, bytes]] = {}
        # Writes on their way: the device may have a part of one when the power goes.
        self.in_flight: dict[int, tuple[Inode, int, bytes]] = {}
        self._next_flight = 0

    # Inodes

    def of(self, node: Node) -> Stored:
        """Return what the device has of `node`: an empty inode at first."""
        stored = self.stored.get(node)
        if stored is None:
            stored = Stored(node.mode, node.atime_ns, node.mtime_ns, node.ctime_ns)
            self.stored[node] = stored
        return stored

    def store_metadata(self, node: Node) -> None:
        stored = self.of(node)
        stored.mode = node.mode
        stored.atime_ns, stored.mtime_ns = node.atime_ns, node.mtime_ns
        stored.ctime_ns = node.ctime_ns

    def sync_file(self, inode: Inode, datasync: bool) -> None:
        """Bring a regular file to the device, whose own cache is flushed with it."""
        self.unflushed.clear()
        stored = self.of(inode)
        if inode.size < stored.size or inode.cut < stored.size:
            cut_pages(stored, min(inode.size, inode.cut))
        for index in (*inode.unmapped, *inode.dirty_pages):
            page = inode.pages.get(index)
            if page is not None:
                stored.pages[index] = bytes(page)
        stored.size = inode.size
        inode.clean()
        inode.unmapped.clear()
        if not datasync:
            self.store_metadata(inode)

    def write_through(self, inode: Inode, indices: Iterable[int]) -> None:
        """Bring pages to the device, but no metadata: blocks that are new there stay unknown."""
        stored = self.of(inode)
        for index in indices:
            inode.dirty_pages.pop(index, None)
            known = index in stored.pages and index * PAGE_SIZE < min(stored.size, inode.cut)
            page = inode.pages.get(index)
            if page is None:
                continue
            if known:
                before = self.unflushed.setdefault(inode, {})
                before.setdefault(index, stored.pages[index])
                stored.pages[index] = bytes(page)
            else:
                inode.unmapped[index] = None

    # Directories

    def record(self, operation: DirectoryOperation) -> None:
        self.journal.append(operation)
        for _, _, node in operation.changes:
            if node is not None:
                self.of(node).uses += 1

    def sync_directory(self, directory: Directory) -> None:
        """Bring the names in `directory` to the device, with what they build on."""
        self._commit(lambda operation: directory in operation.directories)
        self.store_metadata(directory)

    def sync_all(self, sb: SuperBlock) -> None:
        """Bring all names and all files that have one to the device."""
        self._commit(lambda operation: True)
        for node in reachable(sb.root):
            if isinstance(node, Directory):
                self.store_metadata(node)
            else:
                node.write_out()

    def _commit(self, wanted: Callable[[DirectoryOperation], bool]) -> None:
        self.unflushed.clear()
        slots: set[tuple[int, str]] = set()
        emptied: list[Directory] = []
        taken: list[DirectoryOperation] = []
        for operation in reversed(self.journal):
            if (
                wanted(operation)
                or not slots.isdisjoint(operation.slots)
                or any(directory in emptied for directory in operation.directories)
            ):
                taken.append(operation)
                slots |= operation.slots
                if operation.emptied is not None:
                    emptied.append(operation.emptied)
        for operation in reversed(taken):
            self.apply(operation)
        gone = set(map(id, taken))
        self.journal = [operation for operation in self.journal if id(operation) not in gone]

    def apply(self, operation: DirectoryOperation) -> None:
        """Make the changes of one operation on the device."""
        for directory, name, node in operation.changes:
            entries = self.of(directory).entries
            before = entries.pop(name, None)
            if before is not None:
                self.of(before).uses -= 1
                self.forget(before)
            if node is not None:
                # The use by the operation becomes that by the name.
                entries[name] = node

    def forget(self, node: Node) -> None:
        """Drop what no name leads to any more, in memory, on the device or in the journal."""
        stored = self.stored.get(node)
        if stored is not None and not (stored.uses or node.nlink or node.opens):
            del self.stored[node]

        # Writes on their way

    def begin_write(self, inode: Inode, pos: int, data: bytes) -> int:
        self._next_flight += 1
        self.in_flight[self._next_flight] = (inode, pos, data)
        return self._next_flight

    def end_write(self, flight: int) -> None:
        self.in_flight.pop(flight, None)


def reachable(top: Directory) -> Iterator[Node]:
    """Yield all inodes below a directory, each once, and the directory itself."""
    seen: set[Node] = set()
    waiting: list[Node] = [top]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        if isinstance(node, Directory):
            waiting.extend(node.entries.values())


def cut_pages(stored: Stored, size: int) -> None:
    """Cut what the device has of a file to `size` bytes."""
    kept, odd = divmod(size, PAGE_SIZE)
    for index in [index for index in stored.pages if index >= kept + bool(odd)]:
        del stored.pages[index]
    if odd and kept in stored.pages:
        stored.pages[kept] = stored.pages[kept][:odd] + bytes(PAGE_SIZE - odd)
    stored.size = min(stored.size, size)


def wait_for_media(sched: Scheduler, node: Node, operation: str) -> None:
    """Sleep, uninterruptibly, as long as the medium takes for `operation`."""
    device = node.sb.device
    if device is None:
        return
    delay_ns = device.media.delay_ns(operation, node)
    if delay_ns > 0:
        until_ns = sched.clock.now_ns + delay_ns
        while sched.clock.now_ns < until_ns:
            sched.current.state = TASK_UNINTERRUPTIBLE
            schedule_hrtimeout(sched, until_ns)


def transfer(node: Node, operation: str, count: int) -> int:
    """Return how many of `count` bytes the medium takes. EIO, ENOSPC."""
    device = node.sb.device
    return count if device is None else device.media.transfer(operation, node, count)
