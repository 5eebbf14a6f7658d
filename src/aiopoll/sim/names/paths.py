"""Paths: the host's own files first, and the machine's program text and package data below them.

Facts: programs read templates, certificates, time zones and their own sources, which lie on the
machine. A simulated disk that lacked them would be of little use; one that showed everything else
of the machine would let results depend on it.

Rule: what the host's tree has is the host's. Else reading goes on to the machine, below sys.prefix,
the entries of sys.path, the folder of the host's program and a few data directories. Such a file
is read whole when it is opened. Such reads are not in the trace: caches of the process decide
whether they are made at all. Writing never reaches the machine: a file that is changed is first
copied to the host's disk, and a directory that is written to is made there.
Left out: removal of what lies on the machine (ENOENT).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from ...kernel.namei import make_directories
from ...kernel.ramfs import Inode
from ..inside import outside

if TYPE_CHECKING:
    from ..host import Host

T = TypeVar("T")

DATA = (
    "/usr/share/zoneinfo",
    "/usr/lib/zoneinfo",
    "/usr/share/lib/zoneinfo",
    "/etc/zoneinfo",
    "/etc/localtime",
    "/etc/mime.types",
    "/usr/share/mime",
    "/etc/ssl",
    "/etc/pki",
    "/usr/share/ca-certificates",
)
ABSENT = (errno.ENOENT, errno.ENOTDIR)

# The machine's, bound where no world replaces them.
_open, _read, _close = os.open, os.read, os.close
_stat, _lstat, _fstat = os.stat, os.lstat, os.fstat
_listdir, _readlink, _cwd = os.listdir, os.readlink, os.getcwd


@functools.lru_cache(maxsize=8)
def _roots(entries: tuple[str, ...]) -> tuple[str, ...]:
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, *entries, *DATA}
    with outside():
        real = {os.path.realpath(root) for root in found if os.path.isabs(root)}
    chosen = {os.path.normpath(root) for root in (*found, *real) if os.path.isabs(root)}
    chosen.discard("/")
    return tuple(sorted(chosen))


def roots() -> tuple[str, ...]:
    """Return the directories and files of the machine that hosts may read."""
    return _roots(tuple(entry for entry in sys.path if isinstance(entry, str)))


def program_folder(host: Host) -> tuple[str, ...]:
    """Return the folder of the file that a host runs, as Python puts it on sys.path."""
    main = host.main
    if isinstance(main, (str, os.PathLike)) and os.fspath(main).endswith(".py"):
        return (os.path.dirname(os.path.normpath(os.path.join(_cwd(), main))),)
    return ()


def absolute(host: Host, path: Any, dir_fd: int | None = None) -> str | None:
    """Return a path in its plain form; None if it is relative to a descriptor."""
    name = os.fsdecode(path)
    if not name.startswith("/"):
        if dir_fd is not None:
            return None
        try:
            name = f"{host.kernel.getcwd()}/{name}"
        except OSError:
            return None
    return os.path.normpath(name)


def machine_path(host: Host, path: Any, dir_fd: int | None = None) -> str | None:
    """Return the machine's path if hosts may read it there, or None."""
    if isinstance(path, int):
        return None
    name = absolute(host, path, dir_fd)
    if name is None:
        return None
    for root in (*roots(), *program_folder(host)):
        if name == root or name.startswith(f"{root}/"):
            return name
    return None


@contextlib.contextmanager
def named(*paths: Any) -> Iterator[None]:
    """Give an OSError of the kernel the names of the call's files, as os has it."""
    try:
        yield
    except OSError as exc:
        if exc.filename is not None or exc.errno is None:
            raise
        more = (None, paths[1]) if len(paths) > 1 else ()
        raise OSError(exc.errno, os.strerror(exc.errno), paths[0], *more) from None


def checked(path: Any, function: str, *, descriptor: bool = False) -> Any:
    """Return the path as str or bytes, or a descriptor. TypeError, ValueError as os has them."""
    if descriptor and isinstance(path, int):
        return path
    try:
        path = os.fspath(path)
    except TypeError:
        kinds = (
            "string, bytes, os.PathLike or integer"
            if descriptor
            else ("string, bytes or os.PathLike")
        )
        kind = type(path).__name__
        raise TypeError(f"{function}: path should be {kinds}, not {kind}") from None
    if ("\0" if isinstance(path, str) else b"\0") in path:
        raise ValueError(f"{function}: embedded null character in path")
    return path


@contextlib.contextmanager
def untraced(host: Host, place: str | None) -> Iterator[None]:
    """Keep calls that may end on the machine out of the trace."""
    kernel = host.kernel
    trace = kernel.trace
    if place is not None:
        kernel.trace = None
    try:
        yield
    finally:
        kernel.trace = trace


def or_machine(
    host: Host,
    path: Any,
    dir_fd: int | None,
    simulated: Callable[[], T],
    real: Callable[[str], T],
) -> T:
    """Return what the host says of a path, or else what the machine says, if hosts may ask."""
    place = machine_path(host, path, dir_fd)
    with named(path):
        try:
            with untraced(host, place):
                return simulated()
        except OSError as exc:
            if exc.errno not in ABSENT or place is None:
                raise
            try:
                return real(place)
            except OSError:
                raise exc from None


def writing(host: Host, path: Any, dir_fd: int | None, call: Callable[[], T]) -> T:
    """Make a change on the host's disk, in a directory that perhaps the machine alone has yet."""
    try:
        return call()
    except OSError as exc:
        if exc.errno not in ABSENT:
            raise
        place = machine_path(host, path, dir_fd)
        if place is None or not _is_directory(os.path.dirname(place)):
            raise
        make_directories(host.kernel, os.path.dirname(place))
        return call()


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(_stat(path).st_mode)
    except OSError:
        return False


def machine_stat(path: str) -> os.stat_result:
    return _stat(path)


def machine_lstat(path: str) -> os.stat_result:
    return _lstat(path)


def machine_names(path: str) -> list[str]:
    return sorted(_listdir(path))


def machine_link(path: str) -> str:
    return _readlink(path)


def load(host: Host, path: str) -> Inode:
    """Return a file of the machine as one of the host's, in memory. OSError."""
    fd = _open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = _fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.ENOENT, "no regular file")
        parts: list[bytes] = []
        while part := _read(fd, 1 << 20):
            parts.append(part)
    finally:
        _close(fd)
    inode = Inode(host.kernel.memory, stat.S_IMODE(status.st_mode))
    data = b"".join(parts)
    if data:
        inode.write(0, data)
    inode.ino = status.st_ino
    inode.atime_ns, inode.mtime_ns = status.st_atime_ns, status.st_mtime_ns
    inode.ctime_ns = status.st_ctime_ns
    return inode


def open_path(
    host: Host, path: Any, flags: int, mode: int = 0o777, dir_fd: int | None = None
) -> int:
    """os.open on the host's disk; what the machine alone has is opened as a copy in memory."""
    kernel = host.kernel
    writes = flags & os.O_ACCMODE != os.O_RDONLY or flags & (os.O_CREAT | os.O_TRUNC)
    with named(path):
        if not flags & os.O_CREAT:
            place = machine_path(host, path, dir_fd)
            try:
                with untraced(host, None if writes else place):
                    return kernel.open(path, flags, mode, dir_fd)
            except OSError as exc:
                if exc.errno not in ABSENT or place is None:
                    raise
                try:
                    inode = load(host, place)
                except OSError:
                    raise exc from None
            if not writes:
                return kernel.install_inode(inode, flags)
            copy_up(host, place, inode)
        elif not flags & (os.O_EXCL | os.O_TRUNC):
            place = machine_path(host, path, dir_fd)
            if place is not None:
                with contextlib.suppress(OSError):
                    bring(host, place)
        return writing(host, path, dir_fd, lambda: kernel.open(path, flags, mode, dir_fd))


def bring(host: Host, place: str) -> None:
    """Copy a file of the machine to the host's disk, unless the host has one. OSError."""
    try:
        host.kernel.stat(place)
    except OSError:
        copy_up(host, place, load(host, place))


def copy_up(host: Host, place: str, inode: Inode) -> None:
    """Write a file of the machine to the host's disk."""
    kernel = host.kernel
    make_directories(kernel, os.path.dirname(place))
    fd = kernel.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, inode.mode & 0o777)
    try:
        data = inode.read(0, inode.size)
        while data:
            data = data[kernel.write(fd, data) :]
    finally:
        kernel.close(fd)
