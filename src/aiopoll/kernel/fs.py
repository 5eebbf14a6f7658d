"""fs/open.c, fs/namespace.c and fs/read_write.c: opening, and plain I/O calls.

Facts: O_APPEND writes at the end, at any offset. A file lives on after unlink while it is open.
Rule: the devices are in a file system of their own, mounted at /dev from the start.
Left out: permissions, O_PATH, O_ASYNC.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable

from .attr import AttrSyscalls
from .char.mem import null_fops, zero_fops
from .char.random import EntropyPool, random_fops
from .file import Buffer, File, vfs_llseek, vfs_read, vfs_write
from .inode import CharDevice, Directory, Fifo, Node, Socket, SuperBlock, Symlink
from .locks import LockSyscalls
from .namei import NameSyscalls, PathName, UnixNames, Walk, make_directories, pipe_of
from .pipe import fifo_open
from .ramfs import Inode, generic_write_sync, open_inode
from .readdir import ReaddirSyscalls, open_directory
from .sendfile import CopySyscalls
from .signal import Handler
from .syscall import syscall
from .uapi import LONG_MAX, O_ACCMODE, O_TMPFILE, error

# Without O_DIRECTORY, which O_TMPFILE has in it.
TMPFILE_BIT = O_TMPFILE & ~os.O_DIRECTORY
RWF_DSYNC, RWF_SYNC, RWF_APPEND = 2, 4, 0x10


class FileSyscalls(NameSyscalls, AttrSyscalls, ReaddirSyscalls, CopySyscalls, LockSyscalls):
    """open, close, dup, read, write, pread, pwrite, lseek, fsync, fcntl's flags, clocks."""

    # CLOCK_REALTIME, which the times of files are by. A host may have its own.
    realtime_ns: Callable[[], int]
    # What has no name: memfds, and files of the machine outside.
    memory: SuperBlock
    # Of NameSyscalls: mount_root writes them.
    mounts: dict[Directory, SuperBlock]
    root: SuperBlock

    def mount_root(self, pool: EntropyPool, root: SuperBlock | None = None) -> None:
        """Mount `root`, or an empty file system, at /, and the devices at /dev."""
        self.mounts = {}
        clock = self.sched.clock
        self.realtime_ns = lambda: clock.now_ns + clock.realtime_offset_ns
        # Programs bring names of sockets that have directories outside.
        self.net.unix_names = UnixNames(self, make_parents=root is None)
        self.root = SuperBlock() if root is None else root
        self._attach(self.root)
        self.memory = SuperBlock()
        self._attach(self.memory)
        devices = self._mount("/dev", SuperBlock()).root
        for minor, name, f_op, private in (
            (3, "null", null_fops, None),
            (5, "zero", zero_fops, None),
            (8, "random", random_fops, pool),
            (9, "urandom", random_fops, pool),
        ):
            devices.add(name, CharDevice(devices.sb, f_op, private, minor))

    def _attach(self, sb: SuperBlock) -> None:
        sb.attach(self.signals, lambda: self.realtime_ns(), 1 + len(self.mounts))

    def _mount(self, path: str, sb: SuperBlock) -> SuperBlock:
        point = make_directories(self, path)
        if point is point.sb.root:
            raise error(errno.EBUSY)
        self.mounts[point] = sb
        self._attach(sb)
        sb.mountpoint = point
        return sb

    @syscall
    def mount(self, path: str, size: int | None = None, s_maxbytes: int = LONG_MAX) -> None:
        """Mount an empty file system at `path`: `size` bytes in all, files up to `s_maxbytes`.

        Missing directories are made. EBUSY if one is mounted there already.
        """
        self._mount(path, SuperBlock(size, s_maxbytes))

    @syscall
    def open(
        self,
        path: PathName,
        flags: int = os.O_RDONLY,
        mode: int = 0o666,
        dir_fd: int | None = None,
    ) -> int:
        """Open a file, directory, device or FIFO. See open(2).

        ENOENT, ENOTDIR, EISDIR (writing a directory), EEXIST (O_EXCL), ELOOP (O_NOFOLLOW), ENXIO
        (socket; FIFO), EINVAL, EINTR.
        """
        tmpfile = bool(flags & TMPFILE_BIT)
        if tmpfile and (not flags & os.O_DIRECTORY or flags & O_ACCMODE == os.O_RDONLY):
            raise error(errno.EINVAL)
        if flags & os.O_CREAT and flags & os.O_DIRECTORY:
            raise error(errno.EINVAL)
        mode &= 0o7777 & ~self.sched.current.process.umask
        if tmpfile:
            return self._open_tmpfile(path, flags, mode, dir_fd)
        exclusive = bool(flags & os.O_CREAT and flags & os.O_EXCL)
        if flags & os.O_CREAT and os.fsdecode(path).endswith("/"):
            walk = self.walk_parent(path, dir_fd)
        else:
            follow = not (exclusive or flags & os.O_NOFOLLOW)
            walk = self.walk(path, dir_fd, follow=follow)
        if flags & os.O_CREAT and walk.slash and walk.normal:
            raise error(errno.EISDIR)
        node = walk.node
        if node is None:
            if not flags & os.O_CREAT:
                raise error(errno.ENOENT)
            node = self._create_file(walk, mode)
            flags &= ~os.O_TRUNC
        else:
            self._may_open(node, walk, flags, exclusive)
        return self.files.install(self._open_node(node, flags))

    @syscall
    def memfd_create(self, name: str) -> int:
        """Open a file in memory that has no name in any directory."""
        return self.install_inode(Inode(self.memory, 0o777), os.O_RDWR)

    def install_inode(self, inode: Inode, flags: int) -> int:
        """Open a file that the caller has made, and that no directory has."""
        inode.nlink = 0
        return self.files.install(open_inode(inode, flags, self.sched))

    def _create_file(self, walk: Walk, mode: int) -> Inode:
        if walk.directory.dead:
            raise error(errno.ENOENT)
        node = Inode(walk.directory.sb, mode)
        self.create(walk, node)
        return node

    @staticmethod
    def _may_open(node: Node, walk: Walk, flags: int, exclusive: bool) -> None:
        """do_open and may_open, for what is there."""
        if exclusive:
            raise error(errno.EEXIST)
        if isinstance(node, Symlink):
            raise error(errno.ENOTDIR if flags & os.O_DIRECTORY else errno.ELOOP)
        if node.is_directory:
            if flags & (os.O_CREAT | os.O_TRUNC) or flags & O_ACCMODE != os.O_RDONLY:
                raise error(errno.EISDIR)
        elif flags & os.O_DIRECTORY or walk.slash:
            raise error(errno.ENOTDIR)

    def _open_tmpfile(self, path: PathName, flags: int, mode: int, dir_fd: int | None) -> int:
        directory = self.lookup(path, dir_fd)
        if not isinstance(directory, Directory):
            raise error(errno.ENOTDIR)
        inode = Inode(directory.sb, mode)
        inode.nlink = 0
        return self.files.install(open_inode(inode, flags, self.sched))

    def _open_node(self, node: Node, flags: int) -> File:
        if isinstance(node, Inode):
            return open_inode(node, flags, self.sched)
        if isinstance(node, Directory):
            return open_directory(node, flags, self.sched)
        if isinstance(node, Fifo):
            return fifo_open(pipe_of(node, self), flags)
        if isinstance(node, CharDevice):
            return File(self.sched, node.f_op, flags, node.private)
        assert isinstance(node, Socket)
        raise error(errno.ENXIO)

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

    @syscall
    def pwritev2(self, fd: int, data: Buffer, offset: int, flags: int = 0) -> int:
        """As pwrite, or as write at -1, with RWF_DSYNC, RWF_SYNC and RWF_APPEND. EOPNOTSUPP."""
        if flags & ~(RWF_DSYNC | RWF_SYNC | RWF_APPEND):
            raise error(errno.EOPNOTSUPP)
        file = self.fget(fd) if offset == -1 else self._seekable(fd, offset)
        pos = None if offset == -1 else offset
        done = vfs_write(file, data, pos, append=bool(flags & RWF_APPEND))
        if flags & (RWF_DSYNC | RWF_SYNC) and done:
            generic_write_sync(file, not flags & RWF_SYNC)
        return done

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
            return self.realtime_ns()
        raise error(errno.EINVAL)
