"""fs/read_write.c and fs/sync.c: bytes from file to file within the kernel, and sync.

Facts: sendfile reads a file that has positions; copy_file_range has regular files at both ends.
With an offset the position of that file does not move. Both are short at the end of the source.
Rule: bytes are copied.
Left out: reflinks, more than 2 GiB at once.
"""

from __future__ import annotations

import errno
import os

from .file import File, vfs_read, vfs_write
from .inode import Directory
from .namei import Namespace
from .ramfs import Inode
from .syscall import syscall
from .uapi import error

MAX_RW_COUNT = 0x7FFFF000
# What goes from file to file at once.
CHUNK = 1 << 16


class CopySyscalls(Namespace):
    """sendfile, copy_file_range, sync, syncfs."""

    @syscall
    def sendfile(self, out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
        """Write a part of a file to another one or to a socket; returns how much. See sendfile(2).

        EBADF, ESPIPE (no positions), EINVAL (a directory, O_APPEND, a negative offset), EAGAIN.
        """
        source = self.fget(in_fd)
        if not source.readable:
            raise error(errno.EBADF)
        if offset is not None and not source.f_op.seekable:
            raise error(errno.ESPIPE)
        if offset is not None and offset < 0:
            raise error(errno.EINVAL)
        target = self.fget(out_fd)
        if not target.writable:
            raise error(errno.EBADF)
        if not source.f_op.seekable or isinstance(source.private_data, Directory):
            raise error(errno.EINVAL)
        if target.f_flags & os.O_APPEND:
            raise error(errno.EINVAL)
        start = source.f_pos if offset is None else offset
        done = self._copy(source, start, target, None, min(count, MAX_RW_COUNT))
        if offset is None:
            source.f_pos = start + done
        return done

    @syscall
    def copy_file_range(
        self,
        in_fd: int,
        out_fd: int,
        count: int,
        offset_in: int | None = None,
        offset_out: int | None = None,
        flags: int = 0,
    ) -> int:
        """Copy between regular files; returns how much. See copy_file_range(2).

        EBADF, EINVAL (other files, flags, ranges of one file that overlap), EISDIR, EOVERFLOW.
        """
        source, target = self.fget(in_fd), self.fget(out_fd)
        start = source.f_pos if offset_in is None else offset_in
        to = target.f_pos if offset_out is None else offset_out
        if flags:
            raise error(errno.EINVAL)
        for file in (source, target):
            if isinstance(file.private_data, Directory):
                raise error(errno.EISDIR)
        for file in (source, target):
            if not isinstance(file.private_data, Inode):
                raise error(errno.EINVAL)
        if not source.readable or not target.writable or target.f_flags & os.O_APPEND:
            raise error(errno.EBADF)
        for pos in (start, to):
            if pos < 0:
                raise error(errno.EOVERFLOW if pos + count >= 0 else errno.EINVAL)
        inode: Inode = source.private_data
        count = min(count, max(inode.size - start, 0), MAX_RW_COUNT)
        if inode is target.private_data and start < to + count and to < start + count:
            raise error(errno.EINVAL)
        done = self._copy(source, start, target, to, count)
        if offset_in is None:
            source.f_pos = start + done
        if offset_out is None:
            target.f_pos = to + done
        return done

    @staticmethod
    def _copy(source: File, start: int, target: File, to: int | None, count: int) -> int:
        done = 0
        while done < count:
            data = vfs_read(source, min(count - done, CHUNK), start + done)
            if not data:
                break
            try:
                written = vfs_write(target, data, None if to is None else to + done)
            except OSError:
                if done:
                    break
                raise
            done += written
            if written < len(data):
                break
        return done

    @syscall
    def sync(self) -> None:
        """Bring everything to the devices; errors are not reported."""
        for sb in (self.root, *self.mounts.values()):
            if sb.device is not None:
                sb.device.sync_all(sb)

    @syscall
    def syncfs(self, fd: int) -> None:
        """As sync, for the file system of an open file. EBADF."""
        node = self.node_of(self.fget(fd))
        if node is not None and node.sb.device is not None:
            node.sb.device.sync_all(node.sb)
