"""net/socket.c and net/core/{sock,stream,datagram}.c: sockets, their file face and system calls.

Facts: a socket's queue is `sk_sleep(sk)`, and its wake-ups carry broad keys. Data wakes with
IN|PRI|RDNORM|RDBAND although no urgent data came, room with OUT|WRNORM|WRBAND, a change of state
with no key at all. So a key is a hint, and only `poll_mask` returns the true state.

Rule (V2): the socket operations have the same two methods as files, `get_poll_head` in place of
the earlier `pre_poll`, and `poll_mask(sk, events)`. The latter has no file argument: a socket's
readiness does not depend on the file. `sock_get_poll_head` returns None, "cannot be polled", if
the protocol has no `poll_mask`.

Left out: busy polling, MSG_TRUNC in place of the data, MSG_WAITALL with MSG_PEEK, socket filters,
memory pressure.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..file import Buffer, File, FileOperations, PollHead
from ..sched import Scheduler
from ..signal import Signals
from ..syscall import SyscallTable, syscall
from ..uapi import (
    DEFAULT_POLLMASK,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDBAND,
    EPOLLRDHUP,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
    MSG_NOSIGNAL,
    PAGE_SIZE,
    error,
)
from ..wait import WaitQueueHead, wait_event_interruptible
from .wire import Wire

# Plain numbers: the operators of socket.MsgFlag take a microsecond each.
MSG_OOB = int(socket.MSG_OOB)
MSG_PEEK = int(socket.MSG_PEEK)
MSG_DONTWAIT = int(socket.MSG_DONTWAIT)
MSG_TRUNC = int(socket.MSG_TRUNC)
MSG_WAITALL = int(socket.MSG_WAITALL)
O_NONBLOCK = os.O_NONBLOCK

RCV_SHUTDOWN = 1
SEND_SHUTDOWN = 2
SHUTDOWN_MASK = 3

TCP_ESTABLISHED = 1
TCP_SYN_SENT = 2
TCP_SYN_RECV = 3
TCP_FIN_WAIT1 = 4
TCP_FIN_WAIT2 = 5
TCP_CLOSE = 7
TCP_CLOSE_WAIT = 8
TCP_LAST_ACK = 9
TCP_LISTEN = 10
TCP_CLOSING = 11

SOMAXCONN = 4096
SOCK_MAX = 11
WMEM_DEFAULT = 212_992
# struct sk_buff, struct skb_shared_info, the smallest and the largest block of linear data.
SKB_SIZE = 256
SKB_SHARED_INFO = 320
SKB_SMALLEST = 512
SKB_MAX_ALLOC = 4 * PAGE_SIZE - SKB_SHARED_INFO
READ_KEY = EPOLLIN | EPOLLPRI | EPOLLRDNORM | EPOLLRDBAND
WRITE_KEY = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND

Address = Any
SocketTables = dict[tuple[str, int], dict[Any, None]]


class Sock:
    """struct sock: the state that all protocols share. Protocols derive their own from it."""

    # What getsockopt returns for options that were never set, where that is not 0.
    default_options: ClassVar[Mapping[tuple[int, int], Any]] = {}

    def __init__(self, net: Net, ops: ProtoOps, family: int, kind: int, protocol: int) -> None:
        self.net = net
        self.sched: Scheduler = net.sched
        self.ops = ops
        self.family = family
        self.type = kind
        self.protocol = protocol
        self.sk_wq: WaitQueueHead = WaitQueueHead(net.sched, "sk_wq")
        self.sk_err: int = 0
        self.sk_shutdown: int = 0
        self.state: int = TCP_CLOSE
        self.sndbuf = WMEM_DEFAULT
        self.rcvbuf = WMEM_DEFAULT
        self.wmem = 0
        self.options: dict[tuple[int, int], Any] = {}
        self.sndtimeo_ns: int | None = None
        self.rcvtimeo_ns: int | None = None
        self.dead = False

    def data_ready(self) -> None:
        self.sk_wq.wake_up(READ_KEY)

    def write_space(self) -> None:
        self.sk_wq.wake_up(WRITE_KEY)

    def state_change(self) -> None:
        self.sk_wq.wake_up_all()

    def error_report(self) -> None:
        self.sk_wq.wake_up(EPOLLERR)

    def at_mark(self) -> bool:
        """Whether an urgent byte is next: a read that has something stops before it."""
        return False

    def end_events(self) -> int:
        """Return what every poll_mask starts with: a pending error, and shut down directions."""
        mask = 0
        if self.sk_err:
            mask |= EPOLLERR
        if self.sk_shutdown & RCV_SHUTDOWN:
            mask |= EPOLLRDHUP | EPOLLIN | EPOLLRDNORM
        if self.sk_shutdown == SHUTDOWN_MASK:
            mask |= EPOLLHUP
        return mask

    def sock_error(self) -> OSError | None:
        """Take the pending error, and return it."""
        code, self.sk_err = self.sk_err, 0
        return error(code) if code else None

    def raise_error(self) -> None:
        # No local name for the error: with its traceback it would keep the socket alive.
        if self.sk_err:
            raise self.sock_error() or AssertionError

    def broken_pipe(self, flags: int) -> OSError:
        """Return EPIPE; sends SIGPIPE unless MSG_NOSIGNAL."""
        if not flags & MSG_NOSIGNAL:
            self.net.signals.send(signal.SIGPIPE, self.sched.current)
        return error(errno.EPIPE)

    def wait(
        self, condition: Callable[[], bool], timeout_ns: int | None, *, exclusive: bool = False
    ) -> None:
        """Sleep on the socket's queue; EAGAIN after SO_RCVTIMEO or SO_SNDTIMEO, EINTR."""
        expires = None if timeout_ns is None else self.sched.clock.now_ns + timeout_ns
        if not wait_event_interruptible(
            self.sk_wq, condition, exclusive=exclusive, expires_ns=expires
        ):
            raise error(errno.EAGAIN)


@dataclass(slots=True)
class MsgHdr:
    """struct msghdr: what a receive returns beside data and address. The caller owns `files`."""

    flags: int = 0
    files: list[File] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class ProtoOps:
    """struct proto_ops. `nowait` arguments mean: raise EAGAIN or EINPROGRESS, do not sleep."""

    bind: Callable[[Any, Address], None] | None = None
    connect: Callable[[Any, Address, bool], None] | None = None
    listen: Callable[[Any, int], None] | None = None
    accept: Callable[[Any, bool], Any] | None = None
    shutdown: Callable[[Any, int], None] | None = None
    sendmsg: Callable[[Any, bytes, int, Address, bool], int] | None = None
    recvmsg: Callable[[Any, int, int, bool, MsgHdr | None], tuple[bytes, Address]] | None = None
    # sendmsg with files that go along with the data: it takes over the references.
    sendmsg_files: Callable[[Any, bytes, int, Address, bool, list[File]], int] | None = None
    # How many bytes a read could return, for FIONREAD.
    inq: Callable[[Any], int] | None = None
    # The second argument: 0 for its own name, 1 for its peer's, 2 in accept.
    getname: Callable[[Any, int], Address] | None = None
    release: Callable[[Any], None] | None = None
    get_poll_head: Callable[[Any, int], PollHead] | None = None
    poll_mask: Callable[[Any, int], int] | None = None
    setsockopt: Callable[[Any, int, int, Any], bool] | None = None


class Net:
    """struct net: the names of one machine's network. Protocols keep their tables in it.

    `addresses` are the machine's own besides loopback, and `wire` joins it to others. It is `up`
    until its machine loses power: then it sends nothing, and its timers do nothing.
    """

    def __init__(
        self,
        sched: Scheduler,
        signals: Signals,
        wire: Wire | None = None,
        addresses: Sequence[str] = (),
    ) -> None:
        self.sched = sched
        self.signals = signals
        self.wire: Wire = Wire() if wire is None else wire
        self.addresses: tuple[str, ...] = tuple(addresses)
        self.up: bool = True
        self.create: dict[tuple[int, int], Callable[[Net, int, int, int], Sock]] = {}
        # By protocol and port. A listener is in both; the dicts below are sets with an order.
        self.bound: SocketTables = {}
        self.listening: SocketTables = {}
        # Connections with other machines: (own host, own port, peer's host, peer's port).
        self.connections: dict[tuple[str, int, str, int], Any] = {}
        # The file system has the paths among them, and sets this.
        self.unix_names: dict[str | bytes, Any] = {}
        self.next_port: int = 32_768
        self.next_autobind = 0

    def skip_ports(self, count: int) -> None:
        """Let the next free ports be sought `count` further on."""
        self.next_port = 32_768 + (self.next_port - 32_768 + count) % 28_232

    def deliver(self, function: Callable[[], None]) -> None:
        """Put a segment on the wire: a softirq calls `function`, in the order of sending."""
        self.sched.raise_softirq(function)


def skb_truesize(size: int, linear_max: int = SKB_MAX_ALLOC, smallest: int = SKB_SMALLEST) -> int:
    """Return the charge for a message of `size` bytes.

    Up to `linear_max` bytes lie in one block, whose size is a power of two; the rest in pages.
    """
    paged = -(-max(size - linear_max, 0) // PAGE_SIZE) * PAGE_SIZE
    block = max(size - paged, 0) + SKB_SHARED_INFO
    return SKB_SIZE + (smallest if block <= smallest else 1 << (block - 1).bit_length()) + paged


def wait_for_datagram(sk: Sock, queue: deque[Any], nowait: bool) -> bool:
    """__skb_recv_datagram: sleep until `queue` has one; False when receiving is shut down."""
    while True:
        # An error comes before queued data.
        sk.raise_error()
        if queue:
            return True
        if nowait:
            # Also after a shutdown: a nonblocking call gets EAGAIN first.
            raise error(errno.EAGAIN)
        if sk.sk_shutdown & RCV_SHUTDOWN:
            return False
        sk.wait(lambda: bool(queue or sk.sk_err or sk.sk_shutdown & RCV_SHUTDOWN), sk.rcvtimeo_ns)


def sock_of(file: File) -> Sock:
    """Return the socket of a file. ENOTSOCK if it is no socket."""
    if file.f_op is not socket_file_ops:
        raise error(errno.ENOTSOCK)
    sk: Sock = file.private_data
    return sk


def sock_sendmsg(sk: Sock, data: bytes, flags: int, address: Address, nowait: bool) -> int:
    if sk.ops.sendmsg is None:
        raise error(errno.EOPNOTSUPP)
    return sk.ops.sendmsg(sk, data, flags, address, nowait or bool(flags & MSG_DONTWAIT))


def sock_recvmsg(
    sk: Sock, count: int, flags: int, nowait: bool, msg: MsgHdr | None = None
) -> tuple[bytes, Address]:
    if sk.ops.recvmsg is None:
        raise error(errno.EOPNOTSUPP)
    nowait = nowait or bool(flags & MSG_DONTWAIT)
    result = sk.ops.recvmsg(sk, count, flags, nowait, msg)
    if flags & MSG_WAITALL and sk.type == socket.SOCK_STREAM and not nowait:
        return _receive_rest(sk, result, count, flags, msg)
    return result


def _receive_rest(
    sk: Sock, result: tuple[bytes, Address], count: int, flags: int, msg: MsgHdr | None
) -> tuple[bytes, Address]:
    """MSG_WAITALL: read on until `count` bytes are there, or a reason to stop."""
    assert sk.ops.recvmsg is not None
    data, address = result
    while data and len(data) < count and not flags & (MSG_OOB | MSG_PEEK):
        if sk.at_mark() or (msg is not None and msg.files):
            break
        try:
            part, _ = sk.ops.recvmsg(sk, count - len(data), flags, False, msg)
        except OSError as exc:
            # The next call reports what came after the data; a Unix socket forgets it.
            if sk.family != socket.AF_UNIX and exc.errno not in (
                errno.EAGAIN,
                errno.EINTR,
                errno.ENOTCONN,
            ):
                sk.sk_err = exc.errno or 0
            break
        if not part:
            break
        data += part
    return data, address


def sock_read_iter(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    if pos:
        raise error(errno.ESPIPE)
    if count == 0:
        return b""
    return sock_recvmsg(file.private_data, count, 0, nowait)[0]


def sock_write_iter(file: File, data: bytes, pos: int | None, nowait: bool) -> int:
    if pos:
        raise error(errno.ESPIPE)
    return sock_sendmsg(file.private_data, data, 0, None, nowait)


def sock_get_poll_head(file: File, events: int) -> PollHead:
    sk: Sock = file.private_data
    if sk.ops.poll_mask is None:
        return None
    if sk.ops.get_poll_head is not None:
        return sk.ops.get_poll_head(sk, events)
    return sk.sk_wq


def sock_poll_mask(file: File, events: int) -> int:
    sk: Sock = file.private_data
    if sk.ops.poll_mask is None:
        # poll(2) without a timeout comes here without a call of get_poll_head.
        return DEFAULT_POLLMASK
    return sk.ops.poll_mask(sk, events)


def sock_inq(file: File) -> int:
    sk: Sock = file.private_data
    if sk.ops.inq is None:
        raise error(errno.ENOTTY)
    return sk.ops.inq(sk)


def sock_close(file: File) -> None:
    sk: Sock = file.private_data
    if sk.ops.release is not None:
        sk.ops.release(sk)


socket_file_ops: FileOperations = FileOperations(
    read=sock_read_iter,
    write=sock_write_iter,
    get_poll_head=sock_get_poll_head,
    poll_mask=sock_poll_mask,
    release=sock_close,
    inq=sock_inq,
    nowait=True,
)


class SocketSyscalls(SyscallTable):
    """socket, socketpair, bind, listen, accept4, connect, send, recv and shutdown.

    Addresses are those of the socket module: (host, port) pairs and Unix paths.
    """

    net: Net

    def _install(self, sk: Sock, flags: int) -> int:
        file = File(self.sched, socket_file_ops, os.O_RDWR | flags & os.O_NONBLOCK, sk)
        return self.files.install(file)

    def _sock(self, fd: int) -> tuple[Sock, bool]:
        # As fget, sock_of and File.nonblocking, in one: every call on a socket comes here.
        file = self.sched.current.process.files.files.get(fd)
        if file is None:
            raise error(errno.EBADF)
        if file.f_op is not socket_file_ops:
            raise error(errno.ENOTSOCK)
        return file.private_data, file.f_flags & O_NONBLOCK != 0

    def _create(self, family: int, kind: int, protocol: int) -> Sock:
        if kind & ~(0xF | os.O_NONBLOCK | os.O_CLOEXEC) or kind & 0xF >= SOCK_MAX:
            raise error(errno.EINVAL)
        if not any(known == family for known, _ in self.net.create):
            raise error(errno.EAFNOSUPPORT)
        plain = kind & 0xF
        create = self.net.create.get((family, plain))
        if create is None:
            raise error(errno.ESOCKTNOSUPPORT)
        return create(self.net, family, plain, protocol)

    @syscall
    def socket(self, family: int, kind: int, protocol: int = 0) -> int:
        """See socket(2). EINVAL, EAFNOSUPPORT, ESOCKTNOSUPPORT, EPROTONOSUPPORT."""
        return self._install(self._create(family, kind, protocol), kind)

    @syscall
    def socketpair(self, family: int, kind: int, protocol: int = 0) -> tuple[int, int]:
        """Create two connected sockets. EOPNOTSUPP for families other than AF_UNIX."""
        from .unix_sock import unix_socketpair

        if family != socket.AF_UNIX:
            raise error(errno.EOPNOTSUPP)
        one = self._create(family, kind, protocol)
        two = self._create(family, kind, protocol)
        unix_socketpair(one, two)
        return self._install(one, kind), self._install(two, kind)

    @syscall
    def bind(self, fd: int, address: Address) -> None:
        """Name the socket. EINVAL (named already), EADDRINUSE, EADDRNOTAVAIL."""
        sk, _ = self._sock(fd)
        if sk.ops.bind is None:
            raise error(errno.EOPNOTSUPP)
        sk.ops.bind(sk, address)

    @syscall
    def listen(self, fd: int, backlog: int = 128) -> None:
        """Accept connections from now on. EOPNOTSUPP, EINVAL, EADDRINUSE."""
        sk, _ = self._sock(fd)
        if sk.ops.listen is None:
            raise error(errno.EOPNOTSUPP)
        sk.ops.listen(sk, min(backlog & 0xFFFFFFFF, SOMAXCONN))

    @syscall
    def accept4(self, fd: int, flags: int = 0) -> tuple[int, Address]:
        """Return the next connection and its peer's address. EINVAL, EAGAIN, EINTR, EOPNOTSUPP."""
        sk, nowait = self._sock(fd)
        if flags & ~(os.O_NONBLOCK | os.O_CLOEXEC):
            raise error(errno.EINVAL)
        if sk.ops.accept is None:
            raise error(errno.EOPNOTSUPP)
        child: Sock = sk.ops.accept(sk, nowait)
        assert child.ops.getname is not None
        return self._install(child, flags), child.ops.getname(child, 2)

    @syscall
    def connect(self, fd: int, address: Address) -> None:
        """Connect, or set a datagram socket's peer. EINPROGRESS, EALREADY, EISCONN and more."""
        sk, nowait = self._sock(fd)
        if sk.ops.connect is None:
            raise error(errno.EOPNOTSUPP)
        sk.ops.connect(sk, address, nowait)

    @syscall
    def getsockname(self, fd: int) -> Address:
        """Return the socket's own address."""
        return self._name(fd, 0)

    @syscall
    def getpeername(self, fd: int) -> Address:
        """Return the peer's address. ENOTCONN."""
        return self._name(fd, 1)

    def _name(self, fd: int, peer: int) -> Address:
        sk, _ = self._sock(fd)
        if sk.ops.getname is None:
            raise error(errno.EOPNOTSUPP)
        return sk.ops.getname(sk, peer)

    @syscall
    def sendto(self, fd: int, data: Buffer, flags: int = 0, address: Address = None) -> int:
        """Send; returns how many bytes were taken. EAGAIN, EPIPE, ENOTCONN, EMSGSIZE and more."""
        sk, nowait = self._sock(fd)
        return sock_sendmsg(sk, bytes(data), flags, address, nowait)

    @syscall
    def recvfrom(self, fd: int, count: int, flags: int = 0) -> tuple[bytes, Address]:
        """Receive up to `count` bytes or one datagram, and its sender. EAGAIN, ENOTCONN, …"""
        sk, nowait = self._sock(fd)
        return sock_recvmsg(sk, count, flags, nowait)

    @syscall
    def shutdown(self, fd: int, how: int) -> None:
        """End one direction or both. EINVAL, ENOTCONN."""
        sk, _ = self._sock(fd)
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise error(errno.EINVAL)
        if sk.ops.shutdown is None:
            raise error(errno.EOPNOTSUPP)
        sk.ops.shutdown(sk, how + 1)
