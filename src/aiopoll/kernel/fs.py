"""fs/open.c, fs/namei.c, fs/namespace.c and fs/read_write.c: names, and plain I/O calls.

Facts: O_APPEND writes at the end, at any offset. A file lives on after unlink while it is open.
Rule: one flat table from absolute paths to inodes, with the devices in it from the start; a mount
is a path before which names belong to another file system.
Left out: directories, links, permissions, file locks, short media errors.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from .char.mem import null_fops, zero_fops
from .char.random import EntropyPool, random_fops
from .file import Buffer, File, FileOperations, vfs_llseek, vfs_read, vfs_write
from .net.socket import Net
from .pipe import Pipe, fifo_open
from .ramfs import Inode, SuperBlock, open_inode
from .signal import Handler
from .syscall import SyscallTable, syscall
from .uapi import LONG_MAX, error


@dataclass(frozen=True)
class Device:
    f_op: FileOperations
    private: object


Node = Inode | Pipe | Device


class FileSyscalls(SyscallTable):
    """open, close, dup, read, write, pread, pwrite, lseek, fsync, fcntl's flags, clocks."""

    net: Net
    nodes: dict[str, Node]
    mounts: dict[str, SuperBlock]

    def mount_root(self, pool: EntropyPool) -> None:
        self.mounts = {"": SuperBlock(self.signals)}
        self.nodes = {
            "/dev/null": Device(null_fops, None),
            "/dev/zero": Device(zero_fops, None),
            "/dev/random": Device(random_fops, pool),
        }
        self.net.path_exists = lambda path: path in self.nodes

    @syscall
    def mount(self, path: str, size: int | None = None, s_maxbytes: int = LONG_MAX) -> None:
        """Mount an empty file system at `path`: `size` bytes in all, files up to `s_maxbytes`.

        EBUSY if one is mounted there already.
        """
        if path in self.mounts:
            raise error(errno.EBUSY)
        self.mounts[path] = SuperBlock(self.signals, size, s_maxbytes)

    def _super_block(self, path: str) -> SuperBlock:
        while path not in self.mounts:
            path = path.rpartition("/")[0]
        return self.mounts[path]

    @syscall
    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """Open a file, device or FIFO. ENOENT, EEXIST (O_EXCL), ENXIO (socket; FIFO), EINTR."""
        if path in self.net.unix_names:
            raise error(errno.EEXIST if flags & os.O_EXCL else errno.ENXIO)
        node = self.nodes.get(path)
        if node is None:
            if not flags & os.O_CREAT:
                raise error(errno.ENOENT)
            node = self.nodes[path] = Inode(self._super_block(path))
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise error(errno.EEXIST)
        if isinstance(node, Pipe):
            return self.files.install(fifo_open(node, flags))
        if isinstance(node, Device):
            return self.files.install(File(self.sched, node.f_op, flags, node.private))
        return self.files.install(open_inode(node, flags, self.signals))

    @syscall
    def mkfifo(self, path: str) -> None:
        """Create a FIFO. EEXIST if the name is taken."""
        if path in self.nodes or path in self.net.unix_names:
            raise error(errno.EEXIST)
        self.nodes[path] = Pipe(self.sched, self.signals)

    @syscall
    def unlink(self, path: str) -> None:
        """Remove a name; open files stay. ENOENT."""
        node = self.nodes.pop(path, None)
        # The name of a socket, bound or left behind; the socket goes on without it.
        if node is None and self.net.unix_names.pop(path, None) is None:
            raise error(errno.ENOENT)
        if isinstance(node, Inode):
            node.nlink = 0
            node.drop()

    @syscall
    def close(self, fd: int) -> None:
        """Free `fd`. Requests in flight keep the file open. EBADF."""
        self.files.close(fd)

    @syscall
    def dup(self, fd: int) -> int:
        """A second descriptor of the same open file. EBADF."""
        return self.files.install(self.fget(fd).get())

    @syscall
    def read(self, fd: int, count: int) -> bytes:
        """See read(2): EBADF, EAGAIN, EINTR, EINVAL and the file's own errors."""
        return vfs_read(self.fget(fd), count)

    @syscall
    def write(self, fd: int, data: Buffer) -> int:
        """See write(2): EBADF, EAGAIN, EINTR, EPIPE, EINVAL and the file's own errors."""
        return vfs_write(self.fget(fd), data)

    @syscall
    def pread(self, fd: int, count: int, offset: int) -> bytes:
        """See pread(2): EINVAL for a negative offset, ESPIPE where there is no position."""
        return vfs_read(self._seekable(fd, offset), count, offset)

    @syscall
    def pwrite(self, fd: int, data: Buffer, offset: int) -> int:
        """See pwrite(2): EINVAL for a negative offset, ESPIPE where there is no position."""
        return vfs_write(self._seekable(fd, offset), data, offset)

    def _seekable(self, fd: int, offset: int) -> File:
        if offset < 0:
            raise error(errno.EINVAL)
        file = self.fget(fd)
        if not file.f_op.seekable:
            raise error(errno.ESPIPE)
        return file

    @syscall
    def lseek(self, fd: int, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position and return it. EBADF, EINVAL, ESPIPE, ENXIO (no data or hole there)."""
        return vfs_llseek(self.fget(fd), offset, whence)

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
            if size > inode.sb.s_maxbytes:
                raise error(errno.EFBIG)
        inode.truncate(size)

    @syscall
    def fsync(self, fd: int) -> None:
        """Write the file out. EBADF; EINVAL where the file has no fsync."""
        self._fsync(fd, False)

    @syscall
    def fdatasync(self, fd: int) -> None:
        """As fsync, without metadata that is not needed to read the data back."""
        self._fsync(fd, True)

    def _fsync(self, fd: int, datasync: bool) -> None:
        file = self.fget(fd)
        if file.f_op.fsync is None:
            raise error(errno.EINVAL)
        file.f_op.fsync(file, datasync)

    @syscall
    def set_blocking(self, fd: int, blocking: bool) -> None:
        """Set or clear O_NONBLOCK, as fcntl(F_SETFL) does. EBADF."""
        file = self.fget(fd)
        file.f_flags &= ~os.O_NONBLOCK
        if not blocking:
            file.f_flags |= os.O_NONBLOCK

    @syscall
    def add_entropy(self, fd: int, bits: int) -> None:
        """ioctl(RNDADDENTROPY): credit `bits` to the pool. ENOTTY for other files."""
        file = self.fget(fd)
        if file.f_op is not random_fops:
            raise error(errno.ENOTTY)
        pool: EntropyPool = file.private_data
        pool.credit(bits)

    @syscall
    def sigaction(self, signo: int, handler: Handler | None) -> None:
        """Run `handler(signo)` when `signo` is delivered; None ignores the signal."""
        self.signals.handlers[int(signo)] = handler

    @syscall
    def sigprocmask(self, mask: Iterable[int]) -> frozenset[int]:
        """Block exactly the signals in `mask`; returns the previous mask."""
        return self.signals.set_mask(mask)

    @syscall
    def clock_gettime(self, clockid: int = time.CLOCK_MONOTONIC) -> int:
        """Return the nanoseconds of the virtual clock. EINVAL for other clocks."""
        clock = self.sched.clock
        if clockid in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME):
            return clock.now_ns
        if clockid == time.CLOCK_REALTIME:
            return clock.now_ns + clock.realtime_offset_ns
        raise error(errno.EINVAL)
