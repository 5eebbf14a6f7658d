"""os.*, fcntl and resource: the calls that take descriptors, on the host's.

Facts: code passes numbers, and for some calls objects with a fileno(). A call goes on after a
signal whose handler raised nothing (PEP 475).
Rule: each call is one of the kernel's. Limits are the host's own, and bind nothing but file sizes.
Left out: ioctls of terminals, leases, RWF_HIPRI and its like, advice (accepted, without effect).
"""

from __future__ import annotations

import errno
import fcntl
import operator
import os
import resource
import struct
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...kernel.uapi import error
from .os_paths import stat_result, statvfs_result
from .raw_files import retried

if TYPE_CHECKING:
    from ..host import Host

FLOCK = struct.Struct("hhqqi4x")
RWF_KNOWN = 0x1F
PIPE_SIZE = 65_536
NOFILE = (1024, 1 << 20)


def number(fd: Any) -> int:
    """Return the descriptor of a number or of an object with a fileno()."""
    if isinstance(fd, int):
        found = fd
    else:
        method = getattr(fd, "fileno", None)
        if method is None:
            raise TypeError("argument must be an int, or have a fileno() method.")
        found = method()
        if not isinstance(found, int):
            raise TypeError("fileno() returned a non-integer")
    if found < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({found})")
    return found


def os_close(host: Host, fd: int) -> None:
    host.kernel.close(operator.index(fd))


def os_closerange(host: Host, fd_low: int, fd_high: int, /) -> None:
    for fd in sorted(host.kernel.files.files):
        if fd_low <= fd < fd_high:
            try:
                host.kernel.close(fd)
            except OSError:
                continue


def os_read(host: Host, fd: int, length: int, /) -> bytes:
    if length < 0:
        raise error(errno.EINVAL)
    data: bytes = retried(lambda: host.kernel.read(fd, length))
    return data


def _bytes(data: Any) -> bytes:
    with memoryview(data) as view:
        return bytes(view)


def os_write(host: Host, fd: int, data: Any, /) -> int:
    content = _bytes(data)
    written: int = retried(lambda: host.kernel.write(fd, content))
    return written


def os_pread(host: Host, fd: int, length: int, offset: int, /) -> bytes:
    if length < 0:
        raise error(errno.EINVAL)
    data: bytes = retried(lambda: host.kernel.pread(fd, length, offset))
    return data


def os_pwrite(host: Host, fd: int, data: Any, offset: int, /) -> int:
    content = _bytes(data)
    written: int = retried(lambda: host.kernel.pwrite(fd, content, offset))
    return written


def _scatter(data: bytes, buffers: Iterable[Any]) -> int:
    done = 0
    for buffer in buffers:
        with memoryview(buffer) as whole, whole.cast("B") as view:
            part = data[done : done + len(view)]
            view[: len(part)] = part
            done += len(part)
    return done


def _room(buffers: Iterable[Any]) -> int:
    return sum(memoryview(buffer).nbytes for buffer in buffers)


def os_readv(host: Host, fd: int, buffers: Any, /) -> int:
    return _scatter(os_read(host, fd, _room(buffers)), buffers)


def os_writev(host: Host, fd: int, buffers: Any, /) -> int:
    return os_write(host, fd, b"".join(map(_bytes, buffers)))


def os_preadv(host: Host, fd: int, buffers: Any, offset: int, flags: int = 0, /) -> int:
    if flags & ~RWF_KNOWN:
        raise error(errno.EOPNOTSUPP)
    return _scatter(os_pread(host, fd, _room(buffers), offset), buffers)


def os_pwritev(host: Host, fd: int, buffers: Any, offset: int, flags: int = 0, /) -> int:
    content = b"".join(map(_bytes, buffers))
    written: int = retried(lambda: host.kernel.pwritev2(fd, content, offset, flags))
    return written


def os_lseek(host: Host, fd: int, position: int, whence: int, /) -> int:
    return host.kernel.lseek(fd, position, whence)


def os_fsync(host: Host, fd: Any) -> None:
    host.kernel.fsync(number(fd))


def os_fdatasync(host: Host, fd: Any) -> None:
    host.kernel.fdatasync(number(fd))


def os_sync(host: Host) -> None:
    host.kernel.sync()


def os_fstat(host: Host, fd: int) -> os.stat_result:
    return stat_result(host.kernel.fstat(operator.index(fd)))


def os_fstatvfs(host: Host, fd: int, /) -> os.statvfs_result:
    return statvfs_result(host.kernel.fstatvfs(fd))


def os_ftruncate(host: Host, fd: int, length: int, /) -> None:
    host.kernel.ftruncate(fd, length)


def os_fchmod(host: Host, fd: int, mode: int) -> None:
    host.kernel.fchmod(fd, mode)


def os_fchown(host: Host, fd: int, uid: int, gid: int) -> None:
    host.kernel.fget(fd)


def os_fchdir(host: Host, fd: Any) -> None:
    host.kernel.fchdir(number(fd))


def os_posix_fallocate(host: Host, fd: int, offset: int, length: int, /) -> None:
    host.kernel.fallocate(fd, 0, offset, length)


def os_posix_fadvise(host: Host, fd: int, offset: int, length: int, advice: int, /) -> None:
    host.kernel.fget(fd)


def os_sendfile(host: Host, out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
    sent: int = retried(lambda: host.kernel.sendfile(out_fd, in_fd, offset, count))
    return sent


def os_copy_file_range(
    host: Host,
    src: int,
    dst: int,
    count: int,
    offset_src: int | None = None,
    offset_dst: int | None = None,
) -> int:
    if count < 0:
        raise ValueError("negative value for 'count' not allowed")
    return host.kernel.copy_file_range(src, dst, count, offset_src, offset_dst)


def os_splice(
    host: Host,
    src: int,
    dst: int,
    count: int,
    offset_src: int | None = None,
    offset_dst: int | None = None,
    flags: int = 0,
) -> int:
    moved: int = retried(lambda: host.kernel.splice(src, dst, count, offset_src, offset_dst, flags))
    return moved


def os_pipe(host: Host) -> tuple[int, int]:
    return host.kernel.pipe2()


def os_pipe2(host: Host, flags: int, /) -> tuple[int, int]:
    return host.kernel.pipe2(flags & ~os.O_CLOEXEC)


def os_dup(host: Host, fd: int, /) -> int:
    return host.kernel.dup(fd)


def os_dup2(host: Host, fd: int, fd2: int, inheritable: bool = True) -> int:
    new = host.kernel.dup2(fd, fd2)
    if inheritable:
        host.kernel.files.inheritable.add(new)
    return new


def os_get_inheritable(host: Host, fd: int, /) -> bool:
    host.kernel.fget(fd)
    return fd in host.kernel.files.inheritable


def os_set_inheritable(host: Host, fd: int, inheritable: bool, /) -> None:
    host.kernel.fget(fd)
    change = host.kernel.files.inheritable
    (change.add if inheritable else change.discard)(fd)


def os_get_blocking(host: Host, fd: int, /) -> bool:
    return not host.kernel.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK


def os_set_blocking(host: Host, fd: int, blocking: bool, /) -> None:
    host.kernel.set_blocking(fd, bool(blocking))


def os_isatty(host: Host, fd: int, /) -> bool:
    return False


def os_ttyname(host: Host, fd: int, /) -> str:
    host.kernel.fget(fd)
    raise error(errno.ENOTTY)


def os_memfd_create(host: Host, name: Any, flags: int = 0) -> int:
    return host.kernel.memfd_create(os.fsdecode(name))


def os_lockf(host: Host, fd: int, command: int, length: int, /) -> None:
    """lockf(3): from the position on."""
    kernel = host.kernel
    if command == os.F_TEST:
        if kernel.getlk(fd, fcntl.F_WRLCK, 0, length, os.SEEK_CUR)[0] != fcntl.F_UNLCK:
            raise error(errno.EACCES)
        return
    kind = fcntl.F_UNLCK if command == os.F_ULOCK else fcntl.F_WRLCK
    if command not in (os.F_ULOCK, os.F_LOCK, os.F_TLOCK):
        raise error(errno.EINVAL)
    waits = command == os.F_LOCK
    retried(lambda: kernel.setlk(fd, kind, 0, length, os.SEEK_CUR, wait=waits))


TABLE: dict[str, Callable[..., Any]] = {
    name.removeprefix("os_"): function
    for name, function in list(globals().items())
    if name.startswith("os_")
}


# fcntl


def fcntl_fcntl(host: Host, fd: Any, cmd: int, arg: Any = 0, /) -> Any:
    fd, kernel = number(fd), host.kernel
    if cmd in (fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW):
        return _record_lock(host, fd, cmd, arg)
    if cmd == fcntl.F_GETFD:
        return 0 if os_get_inheritable(host, fd) else fcntl.FD_CLOEXEC
    if cmd == fcntl.F_SETFD:
        os_set_inheritable(host, fd, not arg & fcntl.FD_CLOEXEC)
        return 0
    if cmd in (getattr(fcntl, "F_GETPIPE_SZ", 1032), getattr(fcntl, "F_SETPIPE_SZ", 1031)):
        kernel.fget(fd)
        return PIPE_SIZE
    if cmd == fcntl.F_DUPFD:
        new = kernel.fcntl(fd, cmd, arg)
        kernel.files.inheritable.add(new)
        return new
    if not isinstance(arg, int):
        raise error(errno.EINVAL)
    return kernel.fcntl(fd, cmd, arg)


def _record_lock(host: Host, fd: int, cmd: int, arg: Any) -> Any:
    data = _bytes(arg).ljust(FLOCK.size, b"\0")
    kind, whence, start, length, _ = FLOCK.unpack(data[: FLOCK.size])
    if cmd == fcntl.F_GETLK:
        kind, start, length, pid = host.kernel.getlk(fd, kind, start, length, whence)
        return FLOCK.pack(kind, whence if kind == fcntl.F_UNLCK else 0, start, length, pid)
    waits = cmd == fcntl.F_SETLKW
    retried(lambda: host.kernel.setlk(fd, kind, start, length, whence, wait=waits))
    return data


def fcntl_flock(host: Host, fd: Any, operation: int, /) -> None:
    fd = number(fd)
    retried(lambda: host.kernel.flock(fd, operation))


def fcntl_lockf(
    host: Host, fd: Any, cmd: int, len: int = 0, start: int = 0, whence: int = 0, /
) -> None:
    fd = number(fd)
    if cmd & fcntl.LOCK_UN:
        kind = fcntl.F_UNLCK
    elif cmd & fcntl.LOCK_SH:
        kind = fcntl.F_RDLCK
    elif cmd & fcntl.LOCK_EX:
        kind = fcntl.F_WRLCK
    else:
        raise ValueError("unrecognized lockf argument")
    waits = not cmd & fcntl.LOCK_NB
    retried(lambda: host.kernel.setlk(fd, kind, start, len, whence, wait=waits))


def fcntl_ioctl(
    host: Host, fd: Any, request: int, arg: Any = 0, mutate_flag: bool = True, /
) -> Any:
    fd = number(fd)
    if isinstance(arg, int):
        return host.kernel.ioctl(fd, request, arg)
    value = int.from_bytes(_bytes(arg)[:4], "little", signed=True)
    result = host.kernel.ioctl(fd, request, value).to_bytes(4, "little", signed=True)
    if isinstance(arg, (bytes, str)) or not mutate_flag:
        return result + _bytes(arg)[4:]
    with memoryview(arg) as whole, whole.cast("B") as view:
        view[: min(4, len_of(view))] = result[: len_of(view)]
    return 0


def len_of(view: memoryview) -> int:
    return len(view)


FCNTL: dict[str, Callable[..., Any]] = {
    "fcntl": fcntl_fcntl,
    "flock": fcntl_flock,
    "lockf": fcntl_lockf,
    "ioctl": fcntl_ioctl,
}


# resource

_limits: weakref.WeakKeyDictionary[Any, dict[int, tuple[int, int]]] = weakref.WeakKeyDictionary()


def getrlimit(host: Host, which: int, /) -> tuple[int, int]:
    if which == resource.RLIMIT_FSIZE:
        return host.kernel.getrlimit(which), resource.RLIM_INFINITY
    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    own = _limits.setdefault(host.kernel, {resource.RLIMIT_NOFILE: NOFILE})
    return own.get(which, infinite)


def setrlimit(host: Host, which: int, limits: Any, /) -> None:
    soft, hard = limits
    top = getrlimit(host, which)[1]
    unlimited = (-1, resource.RLIM_INFINITY)
    if hard not in unlimited and (soft in unlimited or soft > hard):
        raise ValueError("current limit exceeds maximum limit")
    if top not in unlimited and (hard in unlimited or hard > top):
        raise ValueError("not allowed to raise maximum limit")
    if which == resource.RLIMIT_FSIZE:
        host.kernel.setrlimit(which, soft)
        return
    _limits.setdefault(host.kernel, {resource.RLIMIT_NOFILE: NOFILE})[which] = (soft, hard)


RESOURCE: dict[str, Callable[..., Any]] = {"getrlimit": getrlimit, "setrlimit": setrlimit}
