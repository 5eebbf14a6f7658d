"""os.*: the calls that take paths, on the host's disk.

Facts: os.walk, os.makedirs, os.path, shutil, glob, tempfile and pathlib are Python above these.
Code asks os.supports_dir_fd and its like whether a function is among them.
Rule: each call is one of the kernel's, with the exceptions of os: the names are in them. Owners are
root's, and a change of them is accepted and forgotten.
Left out: extended attributes (ENOTSUP), devices, chroot.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...kernel.attr import Stat, StatFs
from ...kernel.namei import AT_SYMLINK_FOLLOW
from .paths import (
    ABSENT,
    checked,
    machine_link,
    machine_lstat,
    machine_names,
    machine_path,
    machine_stat,
    named,
    open_path,
    or_machine,
    writing,
)
from .raw_files import retried

if TYPE_CHECKING:
    from ..host import Host

NSEC = 1_000_000_000


def stat_result(found: Stat) -> os.stat_result:
    """Return the kernel's struct stat as os has it."""
    times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
    names = ("st_atime", "st_mtime", "st_ctime")
    more: dict[str, Any] = {name: ns / NSEC for name, ns in zip(names, times, strict=True)}
    more.update({f"{name}_ns": ns for name, ns in zip(names, times, strict=True)})
    more.update(st_blksize=found.st_blksize, st_blocks=found.st_blocks, st_rdev=found.st_rdev)
    head = (
        found.st_mode,
        found.st_ino,
        found.st_dev,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size,
        *(ns // NSEC for ns in times),
    )
    return os.stat_result(head, more)


def statvfs_result(found: StatFs) -> os.statvfs_result:
    return os.statvfs_result(
        (
            found.f_bsize,
            found.f_bsize,
            found.f_blocks,
            found.f_bfree,
            found.f_bfree,
            found.f_files,
            found.f_ffree,
            found.f_ffree,
            0,
            found.f_namelen,
        )
    )


def os_open(
    host: Host, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
) -> int:
    path = checked(path, "open")
    fd: int = retried(lambda: open_path(host, path, flags, mode, dir_fd))
    return fd


def os_stat(
    host: Host, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True
) -> os.stat_result:
    path = checked(path, "stat", descriptor=True)
    kernel = host.kernel
    if isinstance(path, int):
        with named(path):
            return stat_result(kernel.fstat(path))
    return or_machine(
        host,
        path,
        dir_fd,
        lambda: stat_result(kernel.stat(path, dir_fd, follow_symlinks=follow_symlinks)),
        machine_stat if follow_symlinks else machine_lstat,
    )


def os_lstat(host: Host, path: Any, *, dir_fd: int | None = None) -> os.stat_result:
    return os_stat(host, path, dir_fd=dir_fd, follow_symlinks=False)


def os_access(
    host: Host,
    path: Any,
    mode: int,
    *,
    dir_fd: int | None = None,
    effective_ids: bool = False,
    follow_symlinks: bool = True,
) -> bool:
    path = checked(path, "access")

    def real(place: str) -> None:
        permissions = machine_stat(place).st_mode
        runs = stat.S_ISDIR(permissions) or permissions & 0o111
        if mode & os.W_OK or (mode & os.X_OK and not runs):
            raise OSError(errno.EACCES, "not so")

    try:
        or_machine(
            host,
            path,
            dir_fd,
            lambda: host.kernel.access(path, mode, dir_fd, follow_symlinks=follow_symlinks),
            real,
        )
    except OSError:
        return False
    return True


def os_readlink(host: Host, path: Any, *, dir_fd: int | None = None) -> Any:
    path = checked(path, "readlink")
    target = or_machine(
        host, path, dir_fd, lambda: host.kernel.readlink(path, dir_fd), machine_link
    )
    return os.fsencode(target) if isinstance(path, bytes) else target


def os_statvfs(host: Host, path: Any) -> os.statvfs_result:
    path = checked(path, "statvfs", descriptor=True)
    kernel = host.kernel
    if isinstance(path, int):
        return statvfs_result(kernel.fstatvfs(path))
    return or_machine(
        host,
        path,
        None,
        lambda: statvfs_result(kernel.statvfs(path)),
        lambda place: statvfs_result(kernel.statvfs("/")),
    )


# Directories


class SimDirEntry:
    """os.DirEntry of the host's disk, or of the machine where the host has no such entry."""

    __slots__ = ("_dir_fd", "_host", "_ino", "_kind", "_stats", "name", "path")

    def __init__(
        self, host: Host, name: Any, path: Any, dir_fd: int | None, ino: int, kind: int
    ) -> None:
        self._host = host
        self.name: Any = name
        self.path: Any = path
        self._dir_fd = dir_fd
        self._ino = ino
        self._kind = kind
        self._stats: dict[bool, os.stat_result] = {}

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def inode(self) -> int:
        """Return the number of the inode."""
        return self._ino

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a directory, or a link to one."""
        return self._is(stat.S_IFDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a regular file, or a link to one."""
        return self._is(stat.S_IFREG, follow_symlinks)

    def is_symlink(self) -> bool:
        """Return whether it is a symbolic link."""
        return self._kind == stat.S_IFLNK

    def is_junction(self) -> bool:
        """Return False."""
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return os.stat() of it, asked for once. OSError."""
        found = self._stats.get(follow_symlinks)
        if found is None:
            name = self.path if self._dir_fd is None else self.name
            found = os_stat(self._host, name, dir_fd=self._dir_fd, follow_symlinks=follow_symlinks)
            self._stats[follow_symlinks] = found
        return found

    def _is(self, kind: int, follow_symlinks: bool) -> bool:
        if self._kind != stat.S_IFLNK:
            return self._kind == kind
        if not follow_symlinks:
            return False
        try:
            return stat.S_IFMT(self.stat().st_mode) == kind
        except FileNotFoundError:
            return False

    def __class_getitem__(cls, item: Any) -> Any:
        return cls


class ScandirIterator:
    """What os.scandir returns."""

    def __init__(self, entries: list[SimDirEntry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[SimDirEntry]:
        return self

    def __next__(self) -> SimDirEntry:
        return next(self._entries)

    def __enter__(self) -> ScandirIterator:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget the entries that are left."""
        self._entries = iter(())


def entries(host: Host, path: Any) -> list[tuple[str, int, int]]:
    """Return name, inode and kind of a directory's entries, with those of the machine there."""
    kernel = host.kernel
    own: list[tuple[str, int, int]] | None = None
    if isinstance(path, int):
        with named(path):
            fd = kernel.dup(path)
            try:
                kernel.lseek(fd, 0)
                return _read_entries(host, fd)
            finally:
                kernel.close(fd)
    missing: OSError | None = None
    with named(path):
        try:
            fd = kernel.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as exc:
            if exc.errno not in ABSENT:
                raise
            missing = exc
        else:
            try:
                own = _read_entries(host, fd)
            finally:
                kernel.close(fd)
        place = machine_path(host, path)
        found = [] if place is None else _machine_entries(place)
        if found is None or place is None:
            if missing is not None:
                raise missing
            found = []
    known = {name for name, _, _ in own or ()}
    return [*(own or ()), *(entry for entry in found if entry[0] not in known)]


def _read_entries(host: Host, fd: int) -> list[tuple[str, int, int]]:
    try:
        return [tuple(entry) for entry in host.kernel.getdents(fd)]  # type: ignore[misc]
    except FileNotFoundError:
        # A directory that was removed; the C library takes this for the end.
        return []


def _machine_entries(place: str) -> list[tuple[str, int, int]] | None:
    found: list[tuple[str, int, int]] = []
    try:
        names = machine_names(place)
    except OSError:
        return None
    for name in names:
        try:
            status = machine_lstat(f"{place}/{name}")
        except OSError:
            continue
        found.append((name, status.st_ino, stat.S_IFMT(status.st_mode)))
    return found


def os_listdir(host: Host, path: Any = None) -> list[Any]:
    path = "." if path is None else checked(path, "listdir", descriptor=True)
    names = [name for name, _, _ in entries(host, path)]
    return [os.fsencode(name) for name in names] if isinstance(path, bytes) else names


def os_scandir(host: Host, path: Any = None) -> ScandirIterator:
    path = "." if path is None else checked(path, "scandir", descriptor=True)
    found: list[SimDirEntry] = []
    for text, ino, kind in entries(host, path):
        name: Any = os.fsencode(text) if isinstance(path, bytes) else text
        if isinstance(path, int):
            found.append(SimDirEntry(host, name, name, path, ino, kind))
        else:
            found.append(SimDirEntry(host, name, os.path.join(path, name), None, ino, kind))
    return ScandirIterator(found)


# Changes


def os_mkdir(host: Host, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    path = checked(path, "mkdir")
    with named(path):
        place = machine_path(host, path, dir_fd)
        if place is not None and _exists_outside(host, path, place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        writing(host, path, dir_fd, lambda: host.kernel.mkdir(path, mode, dir_fd))


def _exists_outside(host: Host, path: Any, place: str) -> bool:
    """Return whether the machine alone has a path, which the host sees."""
    try:
        host.kernel.stat(path, follow_symlinks=False)
    except OSError:
        try:
            machine_lstat(place)
        except OSError:
            return False
        return True
    return False


def os_rmdir(host: Host, path: Any, *, dir_fd: int | None = None) -> None:
    path = checked(path, "rmdir")
    with named(path):
        host.kernel.rmdir(path, dir_fd)


def os_unlink(host: Host, path: Any, *, dir_fd: int | None = None) -> None:
    path = checked(path, "unlink")
    with named(path):
        host.kernel.unlink(path, dir_fd)


def os_rename(
    host: Host,
    src: Any,
    dst: Any,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
) -> None:
    src, dst = checked(src, "rename"), checked(dst, "rename")
    with named(src, dst):
        host.kernel.stat(src, src_dir_fd, follow_symlinks=False)
        writing(host, dst, dst_dir_fd, lambda: host.kernel.rename(src, dst, src_dir_fd, dst_dir_fd))


def os_link(
    host: Host,
    src: Any,
    dst: Any,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    src, dst = checked(src, "link"), checked(dst, "link")
    # Without descriptors os.link is link(2), which does not follow, whatever it says.
    with_fds = src_dir_fd is not None or dst_dir_fd is not None
    flags = AT_SYMLINK_FOLLOW if with_fds and follow_symlinks else 0
    with named(src, dst):
        host.kernel.stat(src, src_dir_fd, follow_symlinks=False)
        writing(
            host, dst, dst_dir_fd, lambda: host.kernel.link(src, dst, src_dir_fd, dst_dir_fd, flags)
        )


def os_symlink(
    host: Host,
    src: Any,
    dst: Any,
    target_is_directory: bool = False,
    *,
    dir_fd: int | None = None,
) -> None:
    src, dst = checked(src, "symlink"), checked(dst, "symlink")
    with named(src, dst):
        writing(host, dst, dir_fd, lambda: host.kernel.symlink(src, dst, dir_fd))


def os_mkfifo(host: Host, path: Any, mode: int = 0o666, *, dir_fd: int | None = None) -> None:
    path = checked(path, "mkfifo")
    with named(path):
        writing(host, path, dir_fd, lambda: host.kernel.mkfifo(path, mode, dir_fd))


def os_truncate(host: Host, path: Any, length: int) -> None:
    path = checked(path, "truncate", descriptor=True)
    with named(path):
        if isinstance(path, int):
            host.kernel.ftruncate(path, length)
        else:
            host.kernel.truncate(path, length)


def os_chmod(
    host: Host,
    path: Any,
    mode: int,
    *,
    dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    path = checked(path, "chmod", descriptor=True)
    with named(path):
        if isinstance(path, int):
            host.kernel.fchmod(path, mode)
        elif not follow_symlinks:
            if stat.S_ISLNK(host.kernel.stat(path, dir_fd, follow_symlinks=False).st_mode):
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            host.kernel.chmod(path, mode, dir_fd)
        else:
            host.kernel.chmod(path, mode, dir_fd)


def os_chown(
    host: Host,
    path: Any,
    uid: int,
    gid: int,
    *,
    dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    os_stat(host, path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)


def os_lchown(host: Host, path: Any, uid: int, gid: int) -> None:
    os_stat(host, path, follow_symlinks=False)


def os_utime(
    host: Host,
    path: Any,
    times: Any = None,
    *,
    ns: Any = None,
    dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    path = checked(path, "utime", descriptor=True)
    if times is not None and ns is not None:
        raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
    atime_ns = mtime_ns = None
    if ns is not None:
        atime_ns, mtime_ns = ns
    elif times is not None:
        atime_ns, mtime_ns = (
            value * NSEC if isinstance(value, int) else round(value * NSEC) for value in times
        )
    with named(path):
        if isinstance(path, int):
            host.kernel.futimens(path, atime_ns, mtime_ns)
        else:
            host.kernel.utimensat(path, atime_ns, mtime_ns, dir_fd, follow_symlinks=follow_symlinks)


def no_attributes(host: Host, path: Any, *args: Any, **kwargs: Any) -> Any:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), path)


# Where the process is


def os_getcwd(host: Host) -> str:
    return host.kernel.getcwd()


def os_getcwdb(host: Host) -> bytes:
    return os.fsencode(host.kernel.getcwd())


def os_chdir(host: Host, path: Any) -> None:
    path = checked(path, "chdir", descriptor=True)
    with named(path):
        if isinstance(path, int):
            host.kernel.fchdir(path)
        else:
            host.kernel.chdir(path)


def os_umask(host: Host, mask: int) -> int:
    return host.kernel.umask(mask)


TABLE: dict[str, Any] = {
    "open": os_open,
    "stat": os_stat,
    "lstat": os_lstat,
    "access": os_access,
    "readlink": os_readlink,
    "statvfs": os_statvfs,
    "listdir": os_listdir,
    "scandir": os_scandir,
    "mkdir": os_mkdir,
    "rmdir": os_rmdir,
    "unlink": os_unlink,
    "remove": os_unlink,
    "rename": os_rename,
    "replace": os_rename,
    "link": os_link,
    "symlink": os_symlink,
    "mkfifo": os_mkfifo,
    "truncate": os_truncate,
    "chmod": os_chmod,
    "chown": os_chown,
    "lchown": os_lchown,
    "utime": os_utime,
    "getxattr": no_attributes,
    "setxattr": no_attributes,
    "listxattr": no_attributes,
    "removexattr": no_attributes,
    "getcwd": os_getcwd,
    "getcwdb": os_getcwdb,
    "chdir": os_chdir,
    "umask": os_umask,
}
