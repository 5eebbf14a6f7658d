"""fs/fcntl.c, fs/file.c and fs/ioctl.c: numbers and flags of open files.

Facts: dup2 closes the number it takes, without a gap in which another task could get it. The
flags that F_SETFL changes belong to the open file, so all its descriptors see them.
Left out: close-on-exec, as there is no exec; locks, owners and leases; F_SETPIPE_SZ;
O_LARGEFILE, which a 64-bit Linux adds to what open gets.
"""

from __future__ import annotations

import errno
import fcntl
import os
import termios
from typing import Final

from .syscall import SyscallTable, syscall
from .uapi import O_DIRECT, O_NOATIME, error

FIONBIO: Final = 0x5421
SETFL_MASK = os.O_APPEND | os.O_NONBLOCK | O_DIRECT | O_NOATIME
# These matter to open alone.
OPENING = os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_TRUNC | os.O_CLOEXEC
NR_OPEN: Final = 1 << 20


class FcntlSyscalls(SyscallTable):
    """dup2, fcntl, ioctl of every file."""

    @syscall
    def dup2(self, fd: int, new: int) -> int:
        """Make `new` a descriptor of the file behind `fd`; returns it. EBADF."""
        file = self.fget(fd)
        if not 0 <= new < NR_OPEN:
            raise error(errno.EBADF)
        if new != fd:
            self.files.replace(new, file.get())
        return new

    @syscall
    def fcntl(self, fd: int, cmd: int, arg: int = 0) -> int:
        """F_GETFL, F_SETFL, F_DUPFD and F_DUPFD_CLOEXEC. EBADF, EINVAL."""
        file = self.fget(fd)
        if cmd == fcntl.F_GETFL:
            return file.f_flags & ~OPENING
        if cmd == fcntl.F_SETFL:
            if arg & O_DIRECT & ~file.f_flags and not file.f_op.seekable:
                raise error(errno.EINVAL)
            file.f_flags = file.f_flags & ~SETFL_MASK | arg & SETFL_MASK
            return 0
        if cmd in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC):
            if not 0 <= arg < NR_OPEN:
                raise error(errno.EINVAL)
            while arg in self.files.files:
                arg += 1
            self.files.replace(arg, file.get())
            return arg
        raise error(errno.EINVAL)

    @syscall
    def ioctl(self, fd: int, request: int, arg: int = 0) -> int:
        """FIONREAD returns the bytes to read, FIONBIO sets or clears O_NONBLOCK. EBADF, ENOTTY."""
        file = self.fget(fd)
        if request == FIONBIO:
            file.f_flags = file.f_flags & ~os.O_NONBLOCK | (os.O_NONBLOCK if arg else 0)
            return 0
        if request != termios.FIONREAD or file.f_op.inq is None:
            raise error(errno.ENOTTY)
        return file.f_op.inq(file)
