"""fs/stat.c, fs/attr.c, fs/utimes.c, fs/statfs.c and fs/open.c: what calls say about inodes.

Facts: root may read and write everything, and run what anyone may run. `truncate` moves mtime and
ctime, `chmod` ctime alone.
Rule: files without an inode of their own (pipes, sockets, eventfds) have one of number 0.
Left out: statx, owners, extended attributes, security bits that a write clears.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from .file import File
from .inode import CharDevice, Directory, Node
from .namei import Namespace, PathName
from .net.socket import socket_file_ops
from .pipe import pipefifo_fops
from .ramfs import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, Inode
from .syscall import syscall
from .uapi import LONG_MAX, PAGE_SIZE, error
from .writeback import transfer

X_OK = 1
# What an unbounded file system says of its size, in pages.
PLENTY = 1 << 20


@dataclass(frozen=True)
class Stat:
    """struct stat: times in nanoseconds."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_size: int
    st_atime_ns: int = 0
    st_mtime_ns: int = 0
    st_ctime_ns: int = 0
    st_blocks: int = 0
    st_rdev: int = 0
    st_uid: int = 0
    st_gid: int = 0
    st_blksize: int = PAGE_SIZE


@dataclass(frozen=True)
class StatFs:
    """struct statfs, in blocks of `f_bsize` bytes."""

    f_bsize: int
    f_blocks: int
    f_bfree: int
    f_files: int
    f_ffree: int
    f_namelen: int = 255


def stat_of(node: Node) -> Stat:
    return Stat(
        node.mode,
        node.ino,
        node.sb.dev,
        node.nlink,
        node.size,
        node.atime_ns,
        node.mtime_ns,
        node.ctime_ns,
        node.blocks,
        os.makedev(1, node.minor) if isinstance(node, CharDevice) else 0,
    )


class AttrSyscalls(Namespace):
    """stat, chmod, utime, access, truncate, fallocate and statvfs, by path or descriptor."""

    @syscall
    def stat(
        self, path: PathName, dir_fd: int | None = None, *, follow_symlinks: bool = True
    ) -> Stat:
        """Return what is known of a file. ENOENT, ENOTDIR, ELOOP."""
        return stat_of(self.lookup(path, dir_fd, follow=follow_symlinks))

    @syscall
    def fstat(self, fd: int) -> Stat:
        """As stat, of an open file. EBADF."""
        file = self.fget(fd)
        node = self.node_of(file)
        if node is not None:
            return stat_of(node)
        if file.f_op is socket_file_ops:
            return Stat(stat.S_IFSOCK | 0o777, 0, 0, 1, 0)
        if file.f_op is pipefifo_fops:
            return Stat(stat.S_IFIFO | 0o600, 0, 0, 1, 0)
        return Stat(0o600, 0, 0, 1, 0)

    @syscall
    def chmod(self, path: PathName, mode: int, dir_fd: int | None = None) -> None:
        """Set the permissions. ENOENT, ENOTDIR."""
        self._chmod(self.lookup(path, dir_fd), mode)

    @syscall
    def fchmod(self, fd: int, mode: int) -> None:
        """As chmod, of an open file. EBADF."""
        node = self.node_of(self.fget(fd))
        if node is not None:
            self._chmod(node, mode)

    @staticmethod
    def _chmod(node: Node, mode: int) -> None:
        node.mode = stat.S_IFMT(node.mode) | mode & 0o7777
        node.changed()

    @syscall
    def utimensat(
        self,
        path: PathName,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        dir_fd: int | None = None,
        *,
        follow_symlinks: bool = True,
    ) -> None:
        """Set the times, both to now if they are None. ENOENT."""
        self._utime(self.lookup(path, dir_fd, follow=follow_symlinks), atime_ns, mtime_ns)

    @syscall
    def futimens(self, fd: int, atime_ns: int | None = None, mtime_ns: int | None = None) -> None:
        """As utimensat, of an open file. EBADF."""
        node = self.node_of(self.fget(fd))
        if node is not None:
            self._utime(node, atime_ns, mtime_ns)

    @staticmethod
    def _utime(node: Node, atime_ns: int | None, mtime_ns: int | None) -> None:
        now = node.sb.now_ns()
        node.atime_ns = now if atime_ns is None else atime_ns
        node.mtime_ns = now if mtime_ns is None else mtime_ns
        node.ctime_ns = now

    @syscall
    def access(
        self, path: PathName, mode: int, dir_fd: int | None = None, *, follow_symlinks: bool = True
    ) -> None:
        """Whether root may use a file so. ENOENT, EACCES (X_OK of what no user may run), EINVAL."""
        if mode & ~7:
            raise error(errno.EINVAL)
        node = self.lookup(path, dir_fd, follow=follow_symlinks)
        if mode & X_OK and not node.is_directory and not node.mode & 0o111:
            raise error(errno.EACCES)

    # Size

    @syscall
    def truncate(self, path: PathName, size: int) -> None:
        """As ftruncate, by path. EINVAL, ENOENT, EISDIR, EFBIG."""
        if size < 0:
            raise error(errno.EINVAL)
        node = self.lookup(path)
        if node.is_directory:
            raise error(errno.EISDIR)
        if not isinstance(node, Inode):
            raise error(errno.EINVAL)
        self._truncate(node, size)

    @syscall
    def ftruncate(self, fd: int, size: int) -> None:
        """Cut a file short, or give it a hole at its end. EINVAL, EBADF, EFBIG."""
        if size < 0:
            raise error(errno.EINVAL)
        file = self.fget(fd)
        if not file.writable or not isinstance(file.private_data, Inode):
            raise error(errno.EINVAL)
        inode = file.private_data
        if size > inode.size:
            inode.sb.write_checks(file, inode.size, size - inode.size)
        self._truncate(inode, size)

    @staticmethod
    def _truncate(inode: Inode, size: int) -> None:
        if size > min(inode.sb.s_maxbytes, LONG_MAX):
            raise error(errno.EFBIG)
        inode.truncate(size)

    @syscall
    def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        """Give a range blocks, or take them away (FALLOC_FL_PUNCH_HOLE). See fallocate(2).

        EINVAL, EOPNOTSUPP (another mode), EBADF, ESPIPE, ENODEV, EISDIR, EFBIG, ENOSPC.
        """
        file = self.fget(fd)
        if offset < 0 or length <= 0:
            raise error(errno.EINVAL)
        if mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE) or mode == FALLOC_FL_PUNCH_HOLE:
            raise error(errno.EOPNOTSUPP)
        if not file.writable:
            raise error(errno.EBADF)
        inode = self._allocatable(file)
        end = offset + length
        if end > inode.sb.s_maxbytes:
            raise error(errno.EFBIG)
        if mode & FALLOC_FL_PUNCH_HOLE:
            inode.punch(offset, end)
            return
        transfer(inode, "write", length)
        for index in range(offset // PAGE_SIZE, -(-end // PAGE_SIZE)):
            if inode.allocate(index) is None:
                raise error(errno.ENOSPC)
        if not mode & FALLOC_FL_KEEP_SIZE and end > inode.size:
            inode.sb.write_checks(file, inode.size, end - inode.size)
            inode.size = end
        inode.modified()

    def _allocatable(self, file: File) -> Inode:
        node = file.private_data
        if isinstance(node, Inode):
            return node
        if file.f_op is pipefifo_fops:
            raise error(errno.ESPIPE)
        raise error(errno.EISDIR if isinstance(node, Directory) else errno.ENODEV)

    # File systems

    @syscall
    def statvfs(self, path: PathName) -> StatFs:
        """Return the bounds of the file system that has a file. ENOENT, ENOTDIR."""
        return self._statfs(self.lookup(path))

    @syscall
    def fstatvfs(self, fd: int) -> StatFs:
        """As statvfs, of an open file. EBADF."""
        node = self.node_of(self.fget(fd))
        return self._statfs(self.root.root if node is None else node)

    @staticmethod
    def _statfs(node: Node) -> StatFs:
        sb = node.sb
        total = PLENTY if sb.pages_max is None else sb.pages_max
        free = max(PLENTY - sb.inodes, 0) if sb.pages is None else sb.pages
        return StatFs(PAGE_SIZE, total, free, PLENTY, max(PLENTY - sb.inodes, 0))
