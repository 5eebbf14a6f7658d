"""mm/mmap.c and mm/filemap.c: shared mappings of regular files.

Facts: a mapping keeps its file open after the descriptor is closed. On x86 writable memory is
readable, so PROT_WRITE is enough for the source of a write.
Rule: a mapping is user memory that system calls take as a buffer.
Left out: private mappings, faults, mprotect.
"""

from __future__ import annotations

import errno
import mmap

from .file import File
from .ramfs import Inode, ramfs_fops
from .syscall import SyscallTable, syscall
from .uapi import PAGE_SIZE, error


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
