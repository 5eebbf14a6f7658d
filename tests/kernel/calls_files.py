"""Linux's calls on names and inodes, as the in-process kernel has them."""

import ctypes
import fcntl
import os
import stat
import struct

from aiopoll.kernel.readdir import DirEntry

_libc = ctypes.CDLL(None, use_errno=True)
KINDS = {stat.S_IFDIR: 4, stat.S_IFREG: 8, stat.S_IFLNK: 10, stat.S_IFIFO: 1, stat.S_IFSOCK: 12}
AT_FDCWD = -100


def check(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


class LinuxFileCalls:
    """A path of the other kernel lies in `directory`; relative ones are as they are."""

    directory: object

    fchmod = staticmethod(os.fchmod)
    fchdir = staticmethod(os.fchdir)
    umask = staticmethod(os.umask)
    flock = staticmethod(fcntl.flock)
    sendfile = staticmethod(os.sendfile)

    def _path(self, path):
        if not path.startswith("/") or path.startswith("/dev/"):
            return path
        return f"{self.directory}{path}"

    def open(self, path, flags, mode=0o666, dir_fd=None):
        return self._new(os.open(self._path(path), flags, mode, dir_fd=dir_fd))

    def unlink(self, path, dir_fd=None):
        os.unlink(self._path(path), dir_fd=dir_fd)

    def mkfifo(self, path, mode=0o666, dir_fd=None):
        os.mkfifo(self._path(path), mode, dir_fd=dir_fd)

    def mkdir(self, path, mode=0o777, dir_fd=None):
        os.mkdir(self._path(path), mode, dir_fd=dir_fd)

    def rmdir(self, path, dir_fd=None):
        os.rmdir(self._path(path), dir_fd=dir_fd)

    def link(self, src, dst, src_dir_fd=None, dst_dir_fd=None, flags=0):
        src_fd = AT_FDCWD if src_dir_fd is None else src_dir_fd
        dst_fd = AT_FDCWD if dst_dir_fd is None else dst_dir_fd
        one, two = (os.fsencode(self._path(path)) for path in (src, dst))
        check(_libc.linkat(src_fd, one, dst_fd, two, flags))

    def symlink(self, target, path, dir_fd=None):
        os.symlink(target, self._path(path), dir_fd=dir_fd)

    def readlink(self, path, dir_fd=None):
        return os.readlink(self._path(path), dir_fd=dir_fd)

    def rename(self, old, new, src_dir_fd=None, dst_dir_fd=None, flags=0):
        src_fd = AT_FDCWD if src_dir_fd is None else src_dir_fd
        dst_fd = AT_FDCWD if dst_dir_fd is None else dst_dir_fd
        one, two = (os.fsencode(self._path(path)) for path in (old, new))
        check(_libc.renameat2(src_fd, one, dst_fd, two, flags))

    def chdir(self, path):
        os.chdir(self._path(path))

    def getcwd(self):
        return os.getcwd().removeprefix(str(self.directory)) or "/"

    def stat(self, path, dir_fd=None, *, follow_symlinks=True):
        return os.stat(self._path(path), dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def fstat(self, fd):
        return os.fstat(fd)

    def chmod(self, path, mode, dir_fd=None):
        os.chmod(self._path(path), mode, dir_fd=dir_fd)

    def access(self, path, mode, dir_fd=None, *, follow_symlinks=True):
        # os.access has no errors.
        fd = AT_FDCWD if dir_fd is None else dir_fd
        flags = 0 if follow_symlinks else 0x100
        check(_libc.faccessat(fd, os.fsencode(self._path(path)), mode, flags))

    def truncate(self, path, size):
        os.truncate(self._path(path), size)

    def fallocate(self, fd, mode, offset, length):
        arguments = map(ctypes.c_long, (offset, length))
        check(_libc.fallocate(fd, mode, *arguments))

    def utimensat(self, path, atime_ns=None, mtime_ns=None, dir_fd=None, *, follow_symlinks=True):
        times = None if atime_ns is None else (atime_ns, mtime_ns)
        os.utime(self._path(path), ns=times, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def getdents(self, fd):
        found = []
        with os.scandir(fd) as entries:
            for entry in entries:
                kind = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
                found.append(DirEntry(entry.name, entry.inode(), kind))
        return found

    def copy_file_range(self, in_fd, out_fd, count, offset_in=None, offset_out=None, flags=0):
        places = [
            None if offset is None else ctypes.byref(ctypes.c_long(offset))
            for offset in (offset_in, offset_out)
        ]
        return check(
            _libc.copy_file_range(
                in_fd, places[0], out_fd, places[1], ctypes.c_size_t(count), flags
            )
        )

    def setlk(self, fd, kind, start=0, length=0, whence=0, *, wait):
        data = struct.pack("hhqqi", kind, whence, start, length, 0)
        fcntl.fcntl(fd, fcntl.F_SETLKW if wait else fcntl.F_SETLK, data)
