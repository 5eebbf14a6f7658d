"""fs/ramfs, mm/shmem.c, mm/filemap.c and mm/mmap.c: regular files in memory, and maps of them.

Facts: a file is pages, and a hole has none. Three bounds limit a write, in this order:
RLIMIT_FSIZE (EFBIG and SIGXFSZ), the largest size that the file system allows (EFBIG) and its
pages (ENOSPC). Across a bound a write is short, at it an error. Regular files have no poll
method: poll(2) finds them ready, AIO poll of the series refuses them, today's kernel completes
at once. A direct read of a dirty file has to write it back first, so with RWF_NOWAIT it is EAGAIN.

Rule: a fresh kernel has one file system without bounds; `mount` gives a path one of its own. On
x86 writable memory is readable, so PROT_WRITE is enough for the source of a write.
Left out: permissions, dirtiness page by page (a file is dirty or clean), private mappings, faults.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal

from .file import File, FileOperations
from .signal import Signals
from .syscall import SyscallTable, syscall
from .uapi import LONG_MAX, O_ACCMODE, PAGE_SIZE, error

SECTOR_SIZE = 512


class SuperBlock:
    """struct super_block: the bounds of one file system. `pages` counts the pages left."""

    def __init__(
        self, signals: Signals, size: int | None = None, s_maxbytes: int = LONG_MAX
    ) -> None:
        self.signals = signals
        self.pages: int | None = None if size is None else -(-size // PAGE_SIZE)
        self.s_maxbytes = s_maxbytes

    def write_checks(self, file: File, pos: int, count: int) -> int:
        """generic_write_checks: return how much of a write at `pos` may go in. EFBIG."""
        task = file.sched.current
        limit = task.process.fsize_max
        if limit is not None:
            if pos >= limit:
                self.signals.send(signal.SIGXFSZ, task)
                raise error(errno.EFBIG)
            count = min(count, limit - pos)
        if pos >= self.s_maxbytes:
            raise error(errno.EFBIG)
        return min(count, self.s_maxbytes - pos)


class Inode:
    """A regular file: its pages by index, and how many fsyncs reached it."""

    def __init__(self, sb: SuperBlock) -> None:
        self.sb = sb
        self.size: int = 0
        self.pages: dict[int, bytearray] = {}
        self.dirty = False
        self.syncs = 0
        # Its pages are freed when neither a name nor an open file is left.
        self.nlink = 1
        self.opens = 0

    def read(self, pos: int, count: int) -> bytes:
        end = min(pos + count, self.size)
        parts: list[bytes] = []
        while pos < end:
            index, offset = divmod(pos, PAGE_SIZE)
            length = min(PAGE_SIZE - offset, end - pos)
            page = self.pages.get(index)
            parts.append(bytes(length) if page is None else bytes(page[offset : offset + length]))
            pos += length
        return b"".join(parts)

    def write(self, pos: int, data: bytes) -> int:
        """Write at `pos`, past the end too; short where pages run out. ENOSPC."""
        done = 0
        while done < len(data):
            index, offset = divmod(pos + done, PAGE_SIZE)
            page = self.pages.get(index)
            if page is None:
                if self.sb.pages == 0:
                    break
                if self.sb.pages is not None:
                    self.sb.pages -= 1
                page = self.pages[index] = bytearray(PAGE_SIZE)
            part = data[done : done + PAGE_SIZE - offset]
            page[offset : offset + len(part)] = part
            done += len(part)
        if not done and data:
            raise error(errno.ENOSPC)
        self.size = max(self.size, pos + done)
        return done

    def truncate(self, size: int) -> None:
        kept, odd = divmod(size, PAGE_SIZE)
        for index in [index for index in self.pages if index >= kept + bool(odd)]:
            del self.pages[index]
            if self.sb.pages is not None:
                self.sb.pages += 1
        if odd and kept in self.pages:
            self.pages[kept][odd:] = bytes(PAGE_SIZE - odd)
        self.size = size

    def drop(self) -> None:
        """iput: free the pages once no name and no open file is left."""
        if not self.nlink and not self.opens:
            self.truncate(0)


def open_inode(inode: Inode, flags: int, signals: Signals) -> File:
    if flags & os.O_TRUNC and flags & O_ACCMODE != os.O_RDONLY:
        inode.truncate(0)
    inode.opens += 1
    return File(signals.sched, ramfs_fops, flags, inode)


def write_back(file: File, pos: int, count: int, nowait: bool) -> None:
    """Write the file back before a direct transfer. EINVAL if that is not aligned, EAGAIN."""
    inode: Inode = file.private_data
    if pos % SECTOR_SIZE or count % SECTOR_SIZE:
        raise error(errno.EINVAL)
    if inode.dirty and nowait:
        raise error(errno.EAGAIN)
    inode.dirty = False


def ramfs_read(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    inode: Inode = file.private_data
    start = pos or 0
    if file.f_flags & os.O_DIRECT:
        write_back(file, start, count, nowait)
    return inode.read(start, count)


def ramfs_write(file: File, data: bytes, pos: int | None, nowait: bool) -> int:
    inode: Inode = file.private_data
    if not data:
        return 0
    start = inode.size if file.f_flags & os.O_APPEND else pos or 0
    count = inode.sb.write_checks(file, start, len(data))
    direct = bool(file.f_flags & os.O_DIRECT)
    if direct:
        write_back(file, start, len(data), nowait)
    done = inode.write(start, data[:count])
    inode.dirty = inode.dirty or not direct
    return done


def ramfs_llseek(file: File, offset: int, whence: int) -> int:
    """generic_file_llseek, for which a file is data up to its end and a hole after it."""
    inode: Inode = file.private_data
    if whence in (os.SEEK_DATA, os.SEEK_HOLE):
        if not 0 <= offset < inode.size:
            raise error(errno.ENXIO)
        file.f_pos = offset if whence == os.SEEK_DATA else inode.size
        return file.f_pos
    base = {os.SEEK_SET: 0, os.SEEK_CUR: file.f_pos, os.SEEK_END: inode.size}
    if base[whence] + offset < 0:
        raise error(errno.EINVAL)
    file.f_pos = base[whence] + offset
    return file.f_pos


def ramfs_fsync(file: File, datasync: bool) -> None:
    inode: Inode = file.private_data
    inode.dirty = False
    inode.syncs += 1


def ramfs_release(file: File) -> None:
    inode: Inode = file.private_data
    inode.opens -= 1
    inode.drop()


ramfs_fops: FileOperations = FileOperations(
    read=ramfs_read,
    write=ramfs_write,
    fsync=ramfs_fsync,
    release=ramfs_release,
    llseek=ramfs_llseek,
    inq=lambda file: file.private_data.size - file.f_pos,
    seekable=True,
    nowait=True,
)


class Mapping:
    """A shared mapping of a file: user memory that system calls take as a buffer.

    `load` and `store` are the kernel's accesses (EFAULT); the program itself uses it as a
    sequence of bytes.
    """

    def __init__(self, file: File, offset: int, length: int, prot: int) -> None:
        self.file: File = file.get()
        self.offset = offset
        self.length = length
        self.prot = prot

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice) -> bytes:
        inode: Inode = self.file.private_data
        start, stop, step = part.indices(self.length)
        return inode.read(self.offset + start, max(stop - start, 0))[::step]

    def load(self, count: int) -> bytes:
        """copy_from_user."""
        self._check(count, mmap.PROT_READ | mmap.PROT_WRITE)
        return self[:count].ljust(count, b"\0")

    def store(self, data: bytes) -> None:
        """copy_to_user."""
        self._check(len(data), mmap.PROT_WRITE)
        inode: Inode = self.file.private_data
        inode.write(self.offset, data[: max(inode.size - self.offset, 0)])
        inode.dirty = True

    def _check(self, count: int, prot: int) -> None:
        inode: Inode = self.file.private_data
        mapped_pages = -(-inode.size // PAGE_SIZE)
        if not self.prot & prot or count > self.length:
            raise error(errno.EFAULT)
        if self.offset + count > mapped_pages * PAGE_SIZE:
            # SIGBUS for the program itself.
            raise error(errno.EFAULT)


class MapSyscalls(SyscallTable):
    """mmap and munmap of regular files; any writable Python buffer is anonymous memory."""

    @syscall
    def mmap(self, fd: int, length: int, prot: int, offset: int = 0) -> Mapping:
        """Map a part of a file, shared. EBADF, ENODEV, EACCES (wrong mode), EINVAL."""
        file = self.fget(fd)
        if length <= 0 or offset % PAGE_SIZE:
            raise error(errno.EINVAL)
        if not file.readable or (prot & mmap.PROT_WRITE and not file.writable):
            raise error(errno.EACCES)
        if file.f_op is not ramfs_fops:
            raise error(errno.ENODEV)
        mapping = Mapping(file, offset, length, prot)
        self.sched.current.process.mappings.append(mapping)
        return mapping

    @syscall
    def munmap(self, mapping: Mapping) -> None:
        """Give the memory and the reference to the file back. EINVAL if it was done before."""
        mappings = self.sched.current.process.mappings
        if mapping not in mappings:
            raise error(errno.EINVAL)
        mappings.remove(mapping)
        mapping.file.put()
