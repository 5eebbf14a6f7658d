"""fs/namei.c: from names to inodes, and the calls that change names.

Facts: the checks have an order, which decides between errors: the form of the last name first,
then whether it is there, then its kind. A trailing slash asks for a directory. A walk follows at
most forty links. Above a root lies the root itself; above a mounted root lies what it covers.

Rule: every task is root's, so no permission is refused. Names are text, with surrogate escapes for
bytes that are not UTF-8.
Left out: permissions, RENAME_EXCHANGE and RENAME_WHITEOUT, openat2's restrictions.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .file import File
from .inode import NAME_MAX, Directory, Fifo, Node, Socket, SuperBlock, Symlink
from .pipe import Pipe
from .syscall import SyscallTable, syscall
from .uapi import error
from .writeback import DirectoryOperation

if TYPE_CHECKING:
    from .net.socket import Net

PathName = str | bytes | os.PathLike[str] | os.PathLike[bytes]

AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
RENAME_NOREPLACE = 1
PATH_MAX = 4096
MAXSYMLINKS = 40


@dataclass
class Walk:
    """struct nameidata: where a path led to. `node` is None if the last name is free.

    `name` is empty where the last component is "/", "." or "..", which `last` then is.
    """

    directory: Directory
    name: str
    node: Node | None
    last: str
    slash: bool

    @property
    def normal(self) -> bool:
        return self.name != ""


def getname(path: PathName) -> str:
    """Return the path as text. ENOENT if it is empty, ENAMETOOLONG."""
    name = os.fsdecode(path)
    if not name:
        raise error(errno.ENOENT)
    if len(name) >= PATH_MAX // 4 and len(os.fsencode(name)) >= PATH_MAX:
        raise error(errno.ENAMETOOLONG)
    return name


class Namespace(SyscallTable):
    """The tree of mounts, and the walk through it."""

    net: Net
    root: SuperBlock
    # By the directory that each covers.
    mounts: dict[Directory, SuperBlock]

    @property
    def cwd(self) -> Directory:
        return self.sched.current.process.cwd or self.root.root

    def start_of(self, name: str, dir_fd: int | None) -> Directory:
        """Where a walk begins. EBADF, ENOTDIR for a descriptor that is no directory's."""
        if name[0] == "/":
            return self.root.root
        if dir_fd is None or dir_fd == AT_FDCWD:
            return self.cwd
        node = self.fget(dir_fd).private_data
        if not isinstance(node, Directory):
            raise error(errno.ENOTDIR)
        return node

    def walk(self, path: PathName, dir_fd: int | None = None, *, follow: bool) -> Walk:
        """Find the last name of `path`; with `follow` a link there is followed.

        ENOENT or ENOTDIR on the way, ELOOP, ENAMETOOLONG.
        """
        name = getname(path)
        return self._walk(self.start_of(name, dir_fd), name, follow, [MAXSYMLINKS])

    def _walk(self, here: Directory, path: str, follow: bool, links: list[int]) -> Walk:
        parts = [part for part in path.split("/") if part]
        slash = path.endswith("/")
        if path[0] == "/":
            here = self.root.root
        if not parts:
            return Walk(here, "", here, "/", True)
        for part in parts[:-1]:
            found = self._step(here, part)
            if isinstance(found, Symlink):
                found = self._follow(here, found, links)
            if not isinstance(found, Directory):
                raise error(errno.ENOENT if found is None else errno.ENOTDIR)
            here = found
        last = parts[-1]
        node = self._step(here, last)
        if last in (".", ".."):
            return Walk(here, "", node, last, slash)
        if isinstance(node, Symlink) and (follow or slash):
            return self._follow_last(here, node, slash, links)
        return Walk(here, last, node, last, slash)

    def _follow_last(self, here: Directory, link: Symlink, slash: bool, links: list[int]) -> Walk:
        self._count(links)
        there = self._walk(here, link.target, True, links)
        there.slash = there.slash or slash
        return there

    def _follow(self, here: Directory, link: Symlink, links: list[int]) -> Node | None:
        self._count(links)
        return self._walk(here, link.target, True, links).node

    @staticmethod
    def _count(links: list[int]) -> None:
        links[0] -= 1
        if links[0] < 0:
            raise error(errno.ELOOP)

    def _step(self, here: Directory, name: str) -> Node | None:
        if name == ".":
            return here
        if name == "..":
            return self.parent_of(here)
        if len(name) > NAME_MAX // 4 and len(os.fsencode(name)) > NAME_MAX:
            raise error(errno.ENAMETOOLONG)
        node = here.entries.get(name)
        if isinstance(node, Directory):
            covering = self.mounts.get(node)
            if covering is not None:
                return covering.root
        return node

    def parent_of(self, here: Directory) -> Directory:
        """Return the directory above, that of the place where it is mounted for a root."""
        while here is here.sb.root:
            if here.sb.mountpoint is None:
                return here
            here = here.sb.mountpoint
        return here.parent or here

    def lookup(self, path: PathName, dir_fd: int | None = None, *, follow: bool = True) -> Node:
        """Return the inode of a path. ENOENT, ENOTDIR (also for a file before a slash), ELOOP."""
        walk = self.walk(path, dir_fd, follow=follow)
        if walk.node is None:
            raise error(errno.ENOENT)
        if walk.slash and not walk.node.is_directory:
            raise error(errno.ENOTDIR)
        return walk.node

    def path_of(self, directory: Directory) -> str | None:
        """d_path: return the path of a directory, or None if it was removed."""
        parts: list[str] = []
        while directory is not self.root.root:
            if directory is directory.sb.root:
                assert directory.sb.mountpoint is not None
                directory = directory.sb.mountpoint
                continue
            if directory.dead or directory.parent is None:
                return None
            parent = directory.parent
            names = (name for name, node in parent.entries.items() if node is directory)
            parts.append(next(names))
            directory = parent
        return "/" + "/".join(reversed(parts))

    def node_of(self, file: File) -> Node | None:
        """Return the inode of an open file; None for files that have no name."""
        node = file.private_data
        if isinstance(node, Node):
            return node
        return None

    # Changes of the tree, which the device gets as operations

    @staticmethod
    def record(kind: str, name: str, *changes: tuple[Directory, str, Node | None]) -> None:
        directory = changes[0][0]
        device = directory.sb.device
        if device is not None:
            device.record(DirectoryOperation(kind, name, list(changes)))

    def create(self, walk: Walk, node: Node) -> None:
        """Give the new inode the free name that a walk ended at."""
        walk.directory.add(walk.name, node)
        self.record("create", walk.name, (walk.directory, walk.name, node))

    def filename_create(
        self, path: PathName, dir_fd: int | None, *, directory: bool = False
    ) -> Walk:
        """Find a free name. EEXIST, ENOENT (for "new/" of what is no directory)."""
        walk = self.walk_parent(path, dir_fd)
        if not walk.normal or walk.node is not None:
            raise error(errno.EEXIST)
        if walk.slash and not directory:
            raise error(errno.ENOENT)
        if walk.directory.dead:
            raise error(errno.ENOENT)
        return walk

    def walk_parent(self, path: PathName, dir_fd: int | None) -> Walk:
        """filename_parentat: the last name itself, a link too, also before a slash."""
        name = getname(path)
        stripped = name.rstrip("/")
        walk = self._walk(self.start_of(name, dir_fd), stripped or "/", False, [MAXSYMLINKS])
        walk.slash = len(stripped) < len(name)
        return walk


class NameSyscalls(Namespace):
    """mkdir, rmdir, link, unlink, rename, symlink, readlink, mkfifo, chdir, getcwd, umask."""

    @syscall
    def mkdir(self, path: PathName, mode: int = 0o777, dir_fd: int | None = None) -> None:
        """Create a directory. EEXIST, ENOENT, ENOTDIR."""
        walk = self.filename_create(path, dir_fd, directory=True)
        sb = walk.directory.sb
        mode &= 0o1777 & ~self.sched.current.process.umask
        self.create(walk, Directory(sb, mode, walk.directory))

    @syscall
    def rmdir(self, path: PathName, dir_fd: int | None = None) -> None:
        """Remove an empty directory. ENOENT, ENOTDIR, ENOTEMPTY, EBUSY (a mount), EINVAL (".")."""
        walk = self.walk_parent(path, dir_fd)
        if not walk.normal:
            code = {"/": errno.EBUSY, ".": errno.EINVAL, "..": errno.ENOTEMPTY}[walk.last]
            raise error(code)
        node = walk.node
        if node is None:
            raise error(errno.ENOENT)
        if not isinstance(node, Directory):
            raise error(errno.ENOTDIR)
        if node is node.sb.root:
            raise error(errno.EBUSY)
        if node.entries:
            raise error(errno.ENOTEMPTY)
        walk.directory.remove(walk.name)
        self._remove_directory(node)
        device = node.sb.device
        if device is not None:
            changes: list[tuple[Directory, str, Node | None]] = [(walk.directory, walk.name, None)]
            device.record(DirectoryOperation("rmdir", walk.name, changes, emptied=node))

    @staticmethod
    def _remove_directory(node: Directory) -> None:
        node.nlink = 0
        node.changed()
        node.drop()

    @syscall
    def unlink(self, path: PathName, dir_fd: int | None = None) -> None:
        """Remove a name; open files stay. ENOENT, EISDIR, ENOTDIR (a file before a slash)."""
        walk = self.walk_parent(path, dir_fd)
        if not walk.normal:
            raise error(errno.EISDIR)
        node = walk.node
        if node is None:
            raise error(errno.ENOENT)
        if node.is_directory:
            raise error(errno.EISDIR)
        if walk.slash:
            raise error(errno.ENOTDIR)
        walk.directory.remove(walk.name)
        self.record("unlink", walk.name, (walk.directory, walk.name, None))
        node.drop_link()

    @syscall
    def link(
        self,
        src: PathName,
        dst: PathName,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        flags: int = 0,
    ) -> None:
        """Give a file one more name. ENOENT, EEXIST, EPERM (a directory), EXDEV, EINVAL (flags)."""
        if flags & ~AT_SYMLINK_FOLLOW:
            raise error(errno.EINVAL)
        node = self.lookup(src, src_dir_fd, follow=bool(flags & AT_SYMLINK_FOLLOW))
        walk = self.filename_create(dst, dst_dir_fd)
        if walk.directory.sb is not node.sb:
            raise error(errno.EXDEV)
        if node.is_directory:
            raise error(errno.EPERM)
        node.nlink += 1
        node.changed()
        walk.directory.add(walk.name, node)
        self.record("link", walk.name, (walk.directory, walk.name, node))

    @syscall
    def symlink(self, target: PathName, path: PathName, dir_fd: int | None = None) -> None:
        """Create a symbolic link. ENOENT (an empty target), EEXIST."""
        text = getname(target)
        walk = self.filename_create(path, dir_fd)
        self.create(walk, Symlink(walk.directory.sb, text))

    @syscall
    def readlink(self, path: PathName, dir_fd: int | None = None) -> str:
        """Return the target of a link. EINVAL for other files, ENOENT."""
        node = self.lookup(path, dir_fd, follow=False)
        if not isinstance(node, Symlink):
            raise error(errno.EINVAL)
        return node.target

    @syscall
    def mkfifo(self, path: PathName, mode: int = 0o666, dir_fd: int | None = None) -> None:
        """Create a FIFO. EEXIST if the name is taken, ENOENT."""
        walk = self.filename_create(path, dir_fd)
        mode &= ~self.sched.current.process.umask
        self.create(walk, Fifo(walk.directory.sb, mode))

    @syscall
    def rename(
        self,
        old: PathName,
        new: PathName,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        flags: int = 0,
    ) -> None:
        """Move a name, onto another if that is there. See rename(2).

        ENOENT, ENOTDIR, EISDIR, ENOTEMPTY, EXDEV, EBUSY, EINVAL (into itself), EEXIST
        (RENAME_NOREPLACE).
        """
        if flags & ~RENAME_NOREPLACE:
            raise error(errno.EINVAL)
        source, target = self.walk_parent(old, src_dir_fd), self.walk_parent(new, dst_dir_fd)
        if source.directory.sb is not target.directory.sb:
            raise error(errno.EXDEV)
        if not source.normal:
            raise error(errno.EBUSY)
        if not target.normal:
            raise error(errno.EEXIST if flags & RENAME_NOREPLACE else errno.EBUSY)
        node, replaced = source.node, target.node
        self._check_rename(source, target, flags)
        assert node is not None
        if replaced is node:
            return
        if replaced is not None:
            target.directory.remove(target.name)
        source.directory.remove(source.name)
        target.directory.add(target.name, node)
        node.changed()
        emptied: Directory | None = None
        if isinstance(replaced, Directory):
            emptied = replaced
            self._remove_directory(replaced)
        device = node.sb.device
        if device is not None:
            changes: list[tuple[Directory, str, Node | None]] = [
                (source.directory, source.name, None),
                (target.directory, target.name, node),
            ]
            device.record(DirectoryOperation("rename", target.name, changes, emptied))
        if replaced is not None and emptied is None:
            replaced.drop_link()

    def _check_rename(self, source: Walk, target: Walk, flags: int) -> None:
        """The order of do_renameat2 and vfs_rename."""
        node, replaced = source.node, target.node
        if node is None:
            raise error(errno.ENOENT)
        if replaced is not None and flags & RENAME_NOREPLACE:
            raise error(errno.EEXIST)
        if not node.is_directory and (source.slash or (target.slash and not replaced)):
            raise error(errno.ENOTDIR)
        if not node.is_directory and target.slash:
            raise error(errno.ENOTDIR)
        if node.is_directory and self._is_below(target.directory, node):
            raise error(errno.EINVAL)
        if replaced is not None and self._is_below(source.directory, replaced):
            raise error(errno.ENOTEMPTY)
        if replaced is node:
            return
        if replaced is None:
            if target.directory.dead:
                raise error(errno.ENOENT)
        elif node.is_directory and not replaced.is_directory:
            raise error(errno.ENOTDIR)
        elif replaced.is_directory and not node.is_directory:
            raise error(errno.EISDIR)
        for moved in (node, replaced):
            if isinstance(moved, Directory) and moved is moved.sb.root:
                raise error(errno.EBUSY)
        if isinstance(replaced, Directory) and replaced.entries:
            raise error(errno.ENOTEMPTY)

    def _is_below(self, directory: Directory, top: Node) -> bool:
        while directory is not top:
            above = self.parent_of(directory)
            if above is directory:
                return False
            directory = above
        return True

    # Where a process is

    @syscall
    def chdir(self, path: PathName) -> None:
        """Change the directory that relative paths begin at. ENOENT, ENOTDIR."""
        node = self.lookup(path)
        if not isinstance(node, Directory):
            raise error(errno.ENOTDIR)
        self.sched.current.process.cwd = node

    @syscall
    def fchdir(self, fd: int) -> None:
        """As chdir, to an open directory. EBADF, ENOTDIR."""
        node = self.fget(fd).private_data
        if not isinstance(node, Directory):
            raise error(errno.ENOTDIR)
        self.sched.current.process.cwd = node

    @syscall
    def getcwd(self) -> str:
        """Return the path of the current directory. ENOENT if it was removed."""
        path = self.path_of(self.cwd)
        if path is None:
            raise error(errno.ENOENT)
        return path

    @syscall
    def umask(self, mask: int) -> int:
        """Set the permissions that new files do not get; returns the previous ones."""
        process = self.sched.current.process
        before, process.umask = process.umask, mask & 0o777
        return before


class UnixNames(dict["str | bytes", object]):
    """The names of Unix sockets: abstract ones in this dict, paths in the tree.

    With `make_parents` a path's missing directories are made, as for programs that bring paths of
    the host outside.
    """

    def __init__(self, names: NameSyscalls, make_parents: bool) -> None:
        super().__init__()
        self.names = names
        self.make_parents = make_parents

    def _find(self, path: str) -> Walk | None:
        try:
            return self.names.walk(path, follow=True)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def __contains__(self, address: object) -> bool:
        if isinstance(address, str):
            walk = self._find(address)
            return walk is not None and walk.node is not None
        return super().__contains__(address)

    def get(self, address: str | bytes, default: object = None) -> object:
        """Return the socket of a name. A file that is no socket refuses, like a dead one."""
        if not isinstance(address, str):
            return super().get(address, default)
        walk = self._find(address)
        if walk is None or walk.node is None:
            return default
        sk = walk.node.sk if isinstance(walk.node, Socket) else None
        return DEAD_SOCKET if sk is None else sk

    def __setitem__(self, address: str | bytes, sk: object) -> None:
        if not isinstance(address, str):
            super().__setitem__(address, sk)
            return
        names = self.names
        if self.make_parents:
            make_directories(names, os.path.dirname(address))
        walk = names.filename_create(address, None)
        mode = 0o777 & ~names.sched.current.process.umask
        names.create(walk, Socket(walk.directory.sb, mode, sk))


class DeadSocket:
    """What a socket's name leads to when the socket is gone."""

    dead = True


DEAD_SOCKET = DeadSocket()


def make_directories(names: NameSyscalls, path: str) -> Directory:
    """Return the directory at `path`, made with all above it where they are missing."""
    here = names.root.root if path.startswith("/") else names.cwd
    for part in path.split("/"):
        if not part:
            continue
        found = names._step(here, part)
        if found is None:
            found = Directory(here.sb, 0o755, here)
            names.create(Walk(here, part, None, part, False), found)
        if isinstance(found, Symlink):
            found = names._follow(here, found, [MAXSYMLINKS])
        if not isinstance(found, Directory):
            raise error(errno.ENOTDIR)
        here = found
    return here


def pipe_of(node: Fifo, names: NameSyscalls) -> Pipe:
    """Return the pipe behind a FIFO."""
    if node.pipe is None:
        node.pipe = Pipe(names.sched, names.signals)
    return node.pipe
