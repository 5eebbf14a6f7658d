"""fs/ramfs, mm/shmem.c and mm/filemap.c: regular files, in memory and through the page cache.

Facts: a file is pages, and a hole has none. Three bounds limit a write, in this order:
RLIMIT_FSIZE (EFBIG and SIGXFSZ), the largest size that the file system allows (EFBIG) and its
pages (ENOSPC). Across a bound a write is short, at it an error. Regular files have no poll
method: poll(2) finds them ready, AIO poll of the series refuses them, today's kernel completes
at once. A direct read of a dirty file has to write it back first, so with RWF_NOWAIT it is EAGAIN.

Rule: a fresh kernel has one file system without bounds; `mount` gives a path one of its own. The
device below it, if there is one, has what writeback.py brings there.
Left out: readahead, mandatory locks, swapfiles.
"""

from __future__ import annotations

import errno
import os
import stat

from .file import AT_END, File, FileOperations
from .inode import Node, SuperBlock
from .sched import Scheduler
from .uapi import LONG_MAX, O_DIRECT, PAGE_SIZE, error
from .writeback import transfer, wait_for_media

SECTOR_SIZE = 512
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
# O_SYNC is O_DSYNC and one bit more.
O_SYNC_ONLY = os.O_SYNC & ~os.O_DSYNC


class Inode(Node):
    """A regular file: its pages by index, and how many fsyncs reached it.

    `dirty_pages` are in the cache alone, in the order in which they were written. `unmapped` ones
    are on the device, where a crash would leave no trace of them. `cold` ones are not in memory.
    """

    kind = stat.S_IFREG

    def __init__(self, sb: SuperBlock, mode: int = 0o644) -> None:
        super().__init__(sb, mode)
        self._size = 0
        self.pages: dict[int, bytearray] = {}
        self.dirty_pages: dict[int, None] = {}
        self.unmapped: dict[int, None] = {}
        self.cold: set[int] = set()
        # The smallest size since the device had the file as it was.
        self.cut: int = LONG_MAX
        self.syncs = 0
        # errseq_t: how often writeback has failed.
        self.wb_err = 0

    @property
    def size(self) -> int:
        return self._size

    @size.setter
    def size(self, size: int) -> None:
        self._size = size

    @property
    def blocks(self) -> int:
        return len(self.pages) * (PAGE_SIZE // SECTOR_SIZE)

    @property
    def dirty(self) -> bool:
        return bool(self.dirty_pages)

    def clean(self) -> None:
        self.dirty_pages.clear()
        self.cut = LONG_MAX

    def read(self, pos: int, count: int) -> bytes:
        end = min(pos + count, self._size)
        parts: list[bytes] = []
        while pos < end:
            index, offset = divmod(pos, PAGE_SIZE)
            length = min(PAGE_SIZE - offset, end - pos)
            page = self.pages.get(index)
            parts.append(bytes(length) if page is None else bytes(page[offset : offset + length]))
            pos += length
        return b"".join(parts)

    def allocate(self, index: int) -> bytearray | None:
        """Return the page at `index`, a new one if there was none; None if no page is left."""
        page = self.pages.get(index)
        if page is None:
            if self.sb.pages == 0:
                return None
            if self.sb.pages is not None:
                self.sb.pages -= 1
            page = self.pages[index] = bytearray(PAGE_SIZE)
        return page

    def write(self, pos: int, data: bytes) -> int:
        """Write at `pos`, past the end too; short where pages run out. ENOSPC."""
        done = 0
        while done < len(data):
            index, offset = divmod(pos + done, PAGE_SIZE)
            page = self.allocate(index)
            if page is None:
                break
            part = data[done : done + PAGE_SIZE - offset]
            page[offset : offset + len(part)] = part
            self.dirty_pages[index] = None
            done += len(part)
        if not done and data:
            raise error(errno.ENOSPC)
        self._size = max(self._size, pos + done)
        self.modified()
        return done

    def truncate(self, size: int) -> None:
        kept, odd = divmod(size, PAGE_SIZE)
        self._free([index for index in self.pages if index >= kept + bool(odd)])
        if odd and kept in self.pages and size < self._size:
            self.pages[kept][odd:] = bytes(PAGE_SIZE - odd)
            self.dirty_pages[kept] = None
        self.cut = min(self.cut, size)
        self._size = size
        self.modified()

    def punch(self, pos: int, end: int) -> None:
        """Zero the bytes from `pos` to `end`; their pages stay allocated."""
        end = min(end, -(-self._size // PAGE_SIZE) * PAGE_SIZE)
        for index in [index for index in self.pages if pos < (index + 1) * PAGE_SIZE]:
            start = index * PAGE_SIZE
            if start >= end:
                continue
            first, last = max(pos - start, 0), min(end - start, PAGE_SIZE)
            self.pages[index][first:last] = bytes(last - first)
            self.dirty_pages[index] = None
        self.modified()

    def _free(self, indices: list[int]) -> None:
        for index in indices:
            del self.pages[index]
            self.dirty_pages.pop(index, None)
            self.unmapped.pop(index, None)
            self.cold.discard(index)
            if self.sb.pages is not None:
                self.sb.pages += 1

    def evict(self) -> None:
        self._free(list(self.pages))
        self._size = 0

    def write_out(self) -> None:
        if self.sb.device is not None:
            self.sb.device.sync_file(self, False)


def open_inode(inode: Inode, flags: int, sched: Scheduler) -> File:
    if flags & os.O_TRUNC:
        # Also with O_RDONLY, which POSIX leaves open.
        inode.truncate(0)
    inode.opens += 1
    file = File(sched, ramfs_fops, flags, inode)
    file.f_wb_err = inode.wb_err
    return file


def page_range(pos: int, count: int) -> range:
    return range(pos // PAGE_SIZE, -(-(pos + count) // PAGE_SIZE))


def write_back(file: File, pos: int, count: int, nowait: bool) -> None:
    """Write the file back before a direct transfer. EINVAL if that is not aligned, EAGAIN."""
    inode: Inode = file.private_data
    if pos % SECTOR_SIZE or count % SECTOR_SIZE:
        raise error(errno.EINVAL)
    if inode.dirty and nowait:
        raise error(errno.EAGAIN)
    if inode.sb.device is None:
        inode.clean()
    else:
        inode.sb.device.write_through(inode, list(inode.dirty_pages))


def ramfs_read(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    inode: Inode = file.private_data
    start = pos or 0
    direct = bool(file.f_flags & O_DIRECT)
    if direct:
        write_back(file, start, count, nowait)
    if inode.sb.device is not None and count and (direct or inode.cold):
        wanted = page_range(start, min(count, max(inode.size - start, 0)))
        if direct or not inode.cold.isdisjoint(wanted):
            if nowait and not direct:
                raise error(errno.EAGAIN)
            wait_for_media(file.sched, inode, "read")
            count = transfer(inode, "read", count)
            inode.cold.difference_update(wanted)
    if count:
        inode.atime_ns = inode.sb.now_ns()
    return inode.read(start, count)


def ramfs_write(file: File, data: bytes, pos: int | None, nowait: bool) -> int:
    inode: Inode = file.private_data
    if not data:
        return 0
    start = inode.size if pos == AT_END else pos or 0
    count = inode.sb.write_checks(file, start, len(data))
    direct = bool(file.f_flags & O_DIRECT)
    device = inode.sb.device
    if direct:
        write_back(file, start, len(data), nowait)
    if device is None:
        done = inode.write(start, data[:count])
        if direct:
            inode.clean()
        return done
    if direct:
        flight = device.begin_write(inode, start, data[:count])
        try:
            wait_for_media(file.sched, inode, "write")
        finally:
            device.end_write(flight)
    count = transfer(inode, "write", count)
    if pos == AT_END:
        # Another write may have gone first meanwhile.
        start = inode.size
    done = inode.write(start, data[:count])
    if direct:
        device.write_through(inode, page_range(start, done))
    if file.f_flags & os.O_DSYNC:
        generic_write_sync(file, not file.f_flags & O_SYNC_ONLY)
    return done


def generic_write_sync(file: File, datasync: bool) -> None:
    """The fsync at the end of a write that asked for one: O_SYNC, O_DSYNC, RWF_DSYNC."""
    if file.f_op.fsync is not None:
        file.f_op.fsync(file, datasync)


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
    """Bring the file to the device. EIO if that fails, or failed since this file's last fsync."""
    inode: Inode = file.private_data
    inode.syncs += 1
    device = inode.sb.device
    if device is None:
        inode.clean()
        return
    wait_for_media(file.sched, inode, "fsync")
    try:
        transfer(inode, "fsync", 0)
    except OSError:
        # The pages are clean although the device does not have them.
        inode.clean()
        inode.wb_err += 1
    if file.f_wb_err != inode.wb_err:
        file.f_wb_err = inode.wb_err
        raise error(errno.EIO)
    device.sync_file(inode, datasync)


def ramfs_flush(file: File) -> None:
    """The end of one descriptor. EIO."""
    transfer(file.private_data, "close", 0)


def ramfs_release(file: File) -> None:
    inode: Inode = file.private_data
    inode.opens -= 1
    inode.drop()


ramfs_fops: FileOperations = FileOperations(
    read=ramfs_read,
    write=ramfs_write,
    fsync=ramfs_fsync,
    flush=ramfs_flush,
    release=ramfs_release,
    llseek=ramfs_llseek,
    inq=lambda file: file.private_data.size - file.f_pos,
    seekable=True,
    nowait=True,
)
