"""net/core/scm.c and the message calls of net/socket.c: data with descriptors beside it.

Facts: SCM_RIGHTS carries open files from one process to another, over Unix sockets alone. The
message holds a reference to each. The receiver gets new numbers, as many as fit in its control
buffer; the rest is closed, and MSG_CTRUNC says so. Other families ignore the descriptors.
A read or recv has no control buffer at all, and closes them.

Rule: sendmsg and recvmsg have the arguments and results of the socket module's methods.
Left out: credentials (SCM_CREDENTIALS is checked and dropped), timestamps, IP_PKTINFO, and the
collection of sockets that are in flight in each other's queues.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable

from ..file import Buffer, File
from ..syscall import SyscallTable, syscall
from ..uapi import SCM_CREDENTIALS, error
from .socket import MSG_DONTWAIT, Address, MsgHdr, sock_of, sock_recvmsg

SCM_MAX_FD = 253
CMSG_HEADER_SIZE = 16
INT_SIZE = 4

Control = tuple[int, int, Buffer]


class MessageSyscalls(SyscallTable):
    """sendmsg and recvmsg."""

    @syscall
    def sendmsg(
        self,
        fd: int,
        buffers: Iterable[Buffer],
        ancdata: Iterable[Control] = (),
        flags: int = 0,
        address: Address = None,
    ) -> int:
        """Send one message; returns how many bytes were taken. EBADF, EINVAL, and as sendto.

        `ancdata` has (level, type, data); the descriptors of SCM_RIGHTS are the caller's.
        """
        file = self.fget(fd)
        sk = sock_of(file)
        if sk.ops.sendmsg is None:
            raise error(errno.EOPNOTSUPP)
        data = b"".join(map(bytes, buffers))
        nowait = file.nonblocking or bool(flags & MSG_DONTWAIT)
        if sk.ops.sendmsg_files is None:
            check_control(ancdata)
            return sk.ops.sendmsg(sk, data, flags, address, nowait)
        files = self._rights(ancdata)
        try:
            return sk.ops.sendmsg_files(sk, data, flags, address, nowait, files)
        finally:
            # What the message did not take.
            put_files(files)

    def _rights(self, ancdata: Iterable[Control]) -> list[File]:
        """scm_send: return the files to pass, with a reference to each. EBADF, EINVAL."""
        files: list[File] = []
        try:
            for level, kind, data in ancdata:
                if level != socket.SOL_SOCKET:
                    continue
                if kind not in (socket.SCM_RIGHTS, SCM_CREDENTIALS):
                    raise error(errno.EINVAL)
                if kind == socket.SCM_RIGHTS:
                    count = len(data) // INT_SIZE
                    if len(files) + count > SCM_MAX_FD:
                        raise error(errno.EINVAL)
                    numbers = struct.unpack_from(f"{count}i", data)
                    files += [self.fget(number).get() for number in numbers]
        except OSError:
            put_files(files)
            raise
        return files

    @syscall
    def recvmsg(
        self, fd: int, count: int, ancbufsize: int = 0, flags: int = 0
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Address]:
        """Receive; returns data, control data, MSG_TRUNC and its like, and the sender's address.

        Descriptors that came along are open now, as many as `ancbufsize` has room for.
        """
        file = self.fget(fd)
        msg = MsgHdr()
        data, address = sock_recvmsg(sock_of(file), count, flags, file.nonblocking, msg)
        if not msg.files:
            return data, [], msg.flags, address
        room = max(ancbufsize - CMSG_HEADER_SIZE, 0) // INT_SIZE
        taken, left = msg.files[:room], msg.files[room:]
        numbers = [self.files.install(passed) for passed in taken]
        if left:
            msg.flags |= int(socket.MSG_CTRUNC)
            put_files(left)
        rights = struct.pack(f"{len(numbers)}i", *numbers)
        control = [(socket.SOL_SOCKET, int(socket.SCM_RIGHTS), rights)] if numbers else []
        return data, control, msg.flags, address


def check_control(ancdata: Iterable[Control]) -> None:
    """sock_cmsg_send: a family without descriptors ignores them. EINVAL for unknown kinds."""
    for level, kind, _ in ancdata:
        if level == socket.SOL_SOCKET and kind not in (socket.SCM_RIGHTS, SCM_CREDENTIALS):
            raise error(errno.EINVAL)


def put_files(files: list[File]) -> None:
    """Drop the references of files that no message passes on."""
    while files:
        files.pop().put()
