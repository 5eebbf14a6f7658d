"""fs/jbd2/recovery.c: a file system as it is found after the power was cut.

Facts: what the device has is all that there is: names, and for each inode what was brought there.
An inode without a name on the device is gone, with its contents.
Rule: the tree is built anew from the device, and shares no inode with the one before. What still
refers to that, a program that is off, can change nothing. The caches are cold.
Left out: errors of the journal itself, lost+found.
"""

from __future__ import annotations

from .inode import CharDevice, Directory, Fifo, Node, Socket, SuperBlock, Symlink
from .ramfs import Inode
from .writeback import Device, DirectoryOperation, Stored


def keep_operations(device: Device, kept: list[DirectoryOperation]) -> None:
    """Put these operations on the device, as if they had been brought there; drop the others."""
    chosen = set(map(id, kept))
    for operation in device.journal:
        if id(operation) in chosen:
            device.apply(operation)
    device.journal = []


def files_on(device: Device, root: Directory) -> list[tuple[str, Inode, Stored]]:
    """Return the regular files on the device, each once, with a path, in the order of names."""
    found: dict[Node, tuple[str, Inode, Stored]] = {}
    seen: set[Node] = set()
    waiting = [("", root)]
    while waiting:
        path, directory = waiting.pop(0)
        if directory in seen:
            continue
        seen.add(directory)
        for name, node in device.of(directory).entries.items():
            if isinstance(node, Directory):
                waiting.append((f"{path}/{name}", node))
            elif isinstance(node, Inode) and node not in found:
                found[node] = (f"{path}/{name}", node, device.of(node))
    return sorted(found.values(), key=lambda entry: entry[0])


def recover(sb: SuperBlock, device: Device) -> SuperBlock:
    """Return a new file system with what the device of `sb` has, on the new `device`."""
    assert sb.device is not None
    new = SuperBlock(s_maxbytes=sb.s_maxbytes, device=device)
    new.pages_max = new.pages = sb.pages_max
    new.now_ns = sb.now_ns
    _Recovery(sb.device, new).fill(sb.root, new.root)
    new.next_ino = sb.next_ino
    return new


class _Recovery:
    def __init__(self, old: Device, sb: SuperBlock) -> None:
        self.old = old
        self.sb = sb
        self.nodes: dict[Node, Node] = {}

    def fill(self, old: Directory, new: Directory) -> None:
        """Give `new` the names that the device has in `old`."""
        assert self.sb.device is not None
        self._copy_metadata(old, new)
        stored = self.sb.device.of(new)
        for name, node in self.old.of(old).entries.items():
            copy = self.nodes.get(node)
            if copy is not None:
                if copy.is_directory:
                    # A rename of which the device has one half.
                    continue
                copy.nlink += 1
            else:
                copy = self.nodes[node] = self._copy(node, new)
            new.entries[name] = stored.entries[name] = copy
            if isinstance(copy, Directory):
                new.nlink += 1
            self.sb.device.of(copy).uses += 1
        self._copy_metadata(old, new)

    def _copy(self, node: Node, parent: Directory) -> Node:
        sb = self.sb
        copy: Node
        if isinstance(node, Inode):
            copy = Inode(sb)
            self._copy_contents(self.old.of(node), copy)
        elif isinstance(node, Directory):
            copy = Directory(sb, 0, parent)
            self.fill(node, copy)
        elif isinstance(node, Symlink):
            copy = Symlink(sb, node.target)
        elif isinstance(node, Fifo):
            copy = Fifo(sb, 0)
        elif isinstance(node, CharDevice):
            copy = CharDevice(sb, node.f_op, node.private, node.minor)
        else:
            copy = Socket(sb, 0, None)
        self._copy_metadata(node, copy)
        return copy

    def _copy_contents(self, stored: Stored, copy: Inode) -> None:
        assert self.sb.device is not None
        mine = self.sb.device.of(copy)
        copy.size = mine.size = stored.size
        for index, page in stored.pages.items():
            copy.allocate(index)
            copy.pages[index] = bytearray(page)
            mine.pages[index] = page
            copy.cold.add(index)

    def _copy_metadata(self, node: Node, copy: Node) -> None:
        assert self.sb.device is not None
        stored = self.old.of(node)
        copy.ino = node.ino
        copy.mode = stored.mode
        copy.atime_ns, copy.mtime_ns = stored.atime_ns, stored.mtime_ns
        copy.ctime_ns = stored.ctime_ns
        self.sb.device.store_metadata(copy)
