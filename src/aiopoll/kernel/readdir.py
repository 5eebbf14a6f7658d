"""fs/readdir.c and fs/libfs.c: open directories.

Facts: a directory is open for reading alone, and read(2) of it fails. The order of its entries
means nothing. Its position is a cookie: 0 begins again.
Rule: the order is that in which the names were made.
Left out: cookies of single entries; an entry made while a directory is read may be missed.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from .file import File, FileOperations
from .inode import Directory
from .namei import Namespace
from .sched import Scheduler
from .syscall import syscall
from .uapi import error
from .writeback import transfer, wait_for_media


class DirEntry(NamedTuple):
    """struct linux_dirent64: `d_type` is the kind, as in `st_mode`."""

    d_name: str
    d_ino: int
    d_type: int


def dir_read(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    raise error(errno.EISDIR)


def dir_llseek(file: File, offset: int, whence: int) -> int:
    base = {os.SEEK_SET: 0, os.SEEK_CUR: file.f_pos}
    if whence not in base or base[whence] + offset < 0:
        raise error(errno.EINVAL)
    file.f_pos = base[whence] + offset
    return file.f_pos


def dir_fsync(file: File, datasync: bool) -> None:
    """Bring the names in a directory to the device. EIO."""
    directory: Directory = file.private_data
    device = directory.sb.device
    if device is None:
        return
    wait_for_media(file.sched, directory, "fsync")
    transfer(directory, "fsync", 0)
    device.sync_directory(directory)


def dir_release(file: File) -> None:
    directory: Directory = file.private_data
    directory.opens -= 1
    directory.drop()


dir_fops: FileOperations = FileOperations(
    read=dir_read, fsync=dir_fsync, release=dir_release, llseek=dir_llseek, seekable=True
)


def open_directory(directory: Directory, flags: int, sched: Scheduler) -> File:
    directory.opens += 1
    return File(sched, dir_fops, flags, directory)


class ReaddirSyscalls(Namespace):
    """getdents."""

    @syscall
    def getdents(self, fd: int) -> list[DirEntry]:
        """Return a directory's other entries, not "." and "..". EBADF, ENOTDIR, ENOENT."""
        file = self.fget(fd)
        directory = file.private_data
        if not isinstance(directory, Directory):
            raise error(errno.ENOTDIR)
        if directory.dead:
            raise error(errno.ENOENT)
        start, file.f_pos = file.f_pos, max(file.f_pos, len(directory.entries))
        return [
            DirEntry(name, node.ino, stat.S_IFMT(node.mode))
            for name, node in list(directory.entries.items())[start:]
        ]
