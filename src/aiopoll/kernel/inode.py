"""include/linux/fs.h and fs/inode.c: file systems and their inodes, of every kind.

Facts: an inode has a number, a mode, times and a count of names; a directory maps names to inodes.
A file lives on after its last name went, while it is open. A directory has one name, and its
link count is two more than the directories in it.

Rule: times are the host's CLOCK_REALTIME. A file system on a device keeps what the device has
beside what the memory has (writeback.py); one without a device has memory alone.
Left out: owners other than root, quotas, extended attributes, timestamps coarser than one ns.
"""

from __future__ import annotations

import errno
import signal
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from .uapi import LONG_MAX, PAGE_SIZE, error

if TYPE_CHECKING:
    from .file import File, FileOperations
    from .locks import FileLocks
    from .pipe import Pipe
    from .signal import Signals
    from .writeback import Device

ROOT_INO = 2
FIRST_INO = 11
NAME_MAX = 255


def _boot_time() -> int:
    return 0


class SuperBlock:
    """struct super_block: one file system, and its bounds. `pages` counts the pages left.

    `size` bounds all files together, in bytes, `s_maxbytes` each of them; `device` is what lies
    below, if anything.
    """

    def __init__(
        self,
        size: int | None = None,
        s_maxbytes: int = LONG_MAX,
        device: Device | None = None,
    ) -> None:
        self.pages_max: int | None = None if size is None else -(-size // PAGE_SIZE)
        self.pages: int | None = self.pages_max
        self.s_maxbytes: int = s_maxbytes
        self.device: Device | None = device
        self.dev: int = 0
        # Of the kernel that mounted it.
        self.signals: Signals | None = None
        self.now_ns: Callable[[], int] = _boot_time
        # The directory of another file system that this one covers.
        self.mountpoint: Directory | None = None
        self.inodes: int = 0
        self.next_ino: int = FIRST_INO
        self.root: Directory = Directory(self, 0o755, None)
        self.root.ino = ROOT_INO

    def attach(self, signals: Signals, now_ns: Callable[[], int], dev: int) -> None:
        """Mount it in a kernel: SIGXFSZ goes by `signals`, times are those of `now_ns`."""
        self.signals = signals
        self.now_ns = now_ns
        self.dev = dev

    def new_ino(self) -> int:
        self.next_ino += 1
        self.inodes += 1
        return self.next_ino - 1

    def resize(self, size: int | None) -> None:
        """Change the bound of all files together; what is there stays, even if it is more."""
        before, self.pages_max = self.pages_max, None if size is None else -(-size // PAGE_SIZE)
        if self.pages_max is None:
            self.pages = None
            return
        used = self.used if before is None or self.pages is None else before - self.pages
        self.pages = max(self.pages_max - used, 0)

    @property
    def used(self) -> int:
        """Return the pages that all files have now."""
        seen: set[Node] = set()
        waiting: list[Node] = [self.root]
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting.extend(node.entries.values() if isinstance(node, Directory) else ())
        return sum(node.blocks for node in seen if not node.is_directory) * 512 // PAGE_SIZE

    def write_checks(self, file: File, pos: int, count: int) -> int:
        """generic_write_checks: return how much of a write at `pos` may go in. EFBIG."""
        task = file.sched.current
        limit = task.process.fsize_max
        if limit is not None:
            if pos >= limit:
                assert self.signals is not None
                self.signals.send(signal.SIGXFSZ, task)
                raise error(errno.EFBIG)
            count = min(count, limit - pos)
        if pos >= self.s_maxbytes:
            raise error(errno.EFBIG)
        return min(count, self.s_maxbytes - pos)


class Node:
    """struct inode. `mode` has the kind and the permissions, times are in nanoseconds."""

    kind: ClassVar[int] = 0
    rdev: ClassVar[int] = 0

    def __init__(self, sb: SuperBlock, mode: int) -> None:
        self.sb = sb
        self.ino: int = sb.new_ino()
        self.mode: int = self.kind | mode & 0o7777
        self.atime_ns: int = sb.now_ns()
        self.mtime_ns: int = self.atime_ns
        self.ctime_ns: int = self.atime_ns
        # Its pages are freed when neither a name nor an open file is left.
        self.nlink: int = 1
        self.opens = 0
        self.locks: FileLocks | None = None

    @property
    def size(self) -> int:
        return 0

    @property
    def blocks(self) -> int:
        """Return the space that it takes, in sectors."""
        return 0

    @property
    def is_directory(self) -> bool:
        return self.kind == stat.S_IFDIR

    def changed(self) -> None:
        """Metadata changed now."""
        self.ctime_ns = self.sb.now_ns()

    def modified(self) -> None:
        """Contents changed now."""
        self.mtime_ns = self.ctime_ns = self.sb.now_ns()

    def drop_link(self) -> None:
        """drop_nlink: one name less."""
        self.nlink -= 1
        self.changed()
        self.drop()

    def drop(self) -> None:
        """iput: give the inode up once no name and no open file is left."""
        if not self.nlink and not self.opens:
            self.sb.inodes -= 1
            self.evict()
            if self.sb.device is not None:
                self.sb.device.forget(self)

    def evict(self) -> None:
        """Free what it holds."""

    def write_out(self) -> None:
        """Bring it to the device, if it has contents of its own."""


class Directory(Node):
    """A directory: `parent` is None for a root, and stays after the directory was removed."""

    # Of Node: its methods here write it.
    nlink: int

    kind = stat.S_IFDIR

    def __init__(self, sb: SuperBlock, mode: int, parent: Directory | None) -> None:
        super().__init__(sb, mode)
        self.entries: dict[str, Node] = {}
        self.parent = parent
        self.nlink = 2

    @property
    def size(self) -> int:
        return PAGE_SIZE

    @property
    def blocks(self) -> int:
        return PAGE_SIZE // 512

    @property
    def dead(self) -> bool:
        """Whether it was removed."""
        return self.nlink == 0

    def add(self, name: str, node: Node) -> None:
        """Give `node` a name here; the count of its names is the caller's."""
        self.entries[name] = node
        if isinstance(node, Directory):
            node.parent = self
            self.nlink += 1
        self.modified()

    def remove(self, name: str) -> Node:
        """Take a name away; the count of the inode's names is the caller's."""
        node = self.entries.pop(name)
        if node.is_directory:
            self.nlink -= 1
        self.modified()
        return node


class Symlink(Node):
    kind = stat.S_IFLNK

    def __init__(self, sb: SuperBlock, target: str) -> None:
        super().__init__(sb, 0o777)
        self.target = target

    @property
    def size(self) -> int:
        return len(self.target.encode("utf-8", "surrogateescape"))


class Fifo(Node):
    """A FIFO: its pipe is a kernel's own, and is made at its first use there."""

    kind = stat.S_IFIFO

    def __init__(self, sb: SuperBlock, mode: int) -> None:
        super().__init__(sb, mode)
        self.pipe: Pipe | None = None


class Socket(Node):
    """The name of a Unix socket; `sk` is None when the host that bound it is gone."""

    kind = stat.S_IFSOCK

    def __init__(self, sb: SuperBlock, mode: int, sk: Any) -> None:
        super().__init__(sb, mode)
        self.sk = sk


class CharDevice(Node):
    kind = stat.S_IFCHR

    def __init__(self, sb: SuperBlock, f_op: FileOperations, private: object, minor: int) -> None:
        super().__init__(sb, 0o666)
        self.f_op = f_op
        self.private = private
        self.minor = minor
