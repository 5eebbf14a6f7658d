"""fs/ramfs, fs/namei.c and fs/read_write.c: names, regular files in memory, and plain I/O calls.

Facts: regular files have no poll method: poll(2) finds them ready, AIO poll of the series refuses
them (EINVAL), today's kernel completes at once. O_APPEND writes at the end wherever asked.
Rule: one flat table from absolute paths to inodes, with the devices in it from the start.
Left out: directories, links, permissions, sparse files' holes, file locks, short media errors.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from .char.mem import null_fops, zero_fops
from .char.random import EntropyPool, random_fops
from .file import Buffer, File, FileOperations, vfs_read, vfs_write
from .pipe import Pipe, fifo_open
from .signal import Handler
from .syscall import SyscallTable, syscall
from .uapi import O_ACCMODE, error


@dataclass(eq=False)
class Inode:
    """A regular file: its bytes, and how many fsyncs reached it."""

    data: bytearray = field(default_factory=bytearray)
    dirty: bool = False
    syncs: int = 0


@dataclass(frozen=True)
class Device:
    f_op: FileOperations
    private: object


Node = Inode | Pipe | Device


def ramfs_read(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    inode: Inode = file.private_data
    start = pos or 0
    return bytes(inode.data[start : start + count])


def ramfs_write(file: File, data: bytes, pos: int | None, nowait: bool) -> int:
    inode: Inode = file.private_data
    start = len(inode.data) if file.f_flags & os.O_APPEND else pos or 0
    if start > len(inode.data):
        inode.data.extend(bytes(start - len(inode.data)))
    inode.data[start : start + len(data)] = data
    inode.dirty = True
    return len(data)


def ramfs_fsync(file: File, datasync: bool) -> None:
    inode: Inode = file.private_data
    inode.dirty = False
    inode.syncs += 1


ramfs_fops = FileOperations(
    read=ramfs_read, write=ramfs_write, fsync=ramfs_fsync, seekable=True, nowait=True
)


class FileSyscalls(SyscallTable):
    """open, close, dup, read, write, pread, pwrite, lseek, fsync, fcntl's flags, kill, clocks."""

    nodes: dict[str, Node]

    def mount_devices(self, pool: EntropyPool) -> None:
        self.nodes = {
            "/dev/null": Device(null_fops, None),
            "/dev/zero": Device(zero_fops, None),
            "/dev/random": Device(random_fops, pool),
        }

    @syscall
    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """Open a file, device or FIFO. ENOENT, EEXIST (O_EXCL), ENXIO and EINTR for FIFOs."""
        node = self.nodes.get(path)
        if node is None:
            if not flags & os.O_CREAT:
                raise error(errno.ENOENT)
            node = self.nodes[path] = Inode()
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise error(errno.EEXIST)
        if isinstance(node, Pipe):
            return self.files.install(fifo_open(node, flags))
        if isinstance(node, Device):
            return self.files.install(File(self.sched, node.f_op, flags, node.private))
        if flags & os.O_TRUNC and flags & O_ACCMODE != os.O_RDONLY:
            node.data.clear()
        return self.files.install(File(self.sched, ramfs_fops, flags, node))

    @syscall
    def mkfifo(self, path: str) -> None:
        """Name a FIFO. EEXIST if the name is taken."""
        if path in self.nodes:
            raise error(errno.EEXIST)
        self.nodes[path] = Pipe(self.sched, self.signals)

    @syscall
    def unlink(self, path: str) -> None:
        """Remove a name; open files stay. ENOENT."""
        if self.nodes.pop(path, None) is None:
            raise error(errno.ENOENT)

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
        """See read(2): EBADF, EAGAIN, EINTR, EINVAL and what the file adds."""
        return vfs_read(self.fget(fd), count)

    @syscall
    def write(self, fd: int, data: Buffer) -> int:
        """See write(2): EBADF, EAGAIN, EINTR, EPIPE, EINVAL and what the file adds."""
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
        """Move the position; gives it. EBADF, ESPIPE, EINVAL."""
        file = self.fget(fd)
        if not file.f_op.seekable:
            raise error(errno.ESPIPE)
        inode: Inode = file.private_data
        base = {os.SEEK_SET: 0, os.SEEK_CUR: file.f_pos, os.SEEK_END: len(inode.data)}
        if whence not in base or base[whence] + offset < 0:
            raise error(errno.EINVAL)
        file.f_pos = base[whence] + offset
        return file.f_pos

    @syscall
    def fsync(self, fd: int) -> None:
        """Write the file out. EBADF; EINVAL where that has no meaning."""
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
        """fcntl(F_SETFL) of O_NONBLOCK alone. EBADF."""
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
    def kill(self, signo: int) -> None:
        """Send `signo` to the first task of the process. EINVAL."""
        if not 1 <= signo <= 64:
            raise error(errno.EINVAL)
        self.signals.send(signo, self.sched.main)

    @syscall
    def sigaction(self, signo: int, handler: Handler | None) -> None:
        """Run `handler(signo)` when `signo` is delivered; None ignores the signal."""
        self.signals.handlers[int(signo)] = handler

    @syscall
    def sigprocmask(self, mask: Iterable[int]) -> frozenset[int]:
        """Block exactly the signals in `mask`; gives the mask from before."""
        return self.signals.set_mask(mask)

    @syscall
    def clock_gettime(self, clockid: int = time.CLOCK_MONOTONIC) -> int:
        """Nanoseconds of the virtual clock. EINVAL for other clocks."""
        clock = self.sched.clock
        if clockid in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME):
            return clock.now_ns
        if clockid == time.CLOCK_REALTIME:
            return clock.now_ns + clock.realtime_offset_ns
        raise error(errno.EINVAL)
