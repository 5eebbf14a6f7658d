"""net/unix/af_unix.c: Unix sockets: streams, datagrams and sequenced packets.

Facts: sent data goes straight to the peer's queue and is charged to the sender until it is
read; a sender is writable while at most a quarter of its buffer is charged. Closing with unread
data resets the peer. A datagram queue that holds more than ten messages makes its senders wait.
Sequenced packets are connected as streams are, and sent and received as datagrams.
Rule: `poll_mask` reads the state of one socket; a read that makes room wakes the sender's queue.
Descriptors go with the first byte of a message, and a stream's read stops behind that message.
Left out: credentials, autobind races, path permissions, and the urgent data that streams have
since 5.15.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from dataclasses import dataclass, field

from ..file import File
from ..uapi import (
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
    PAGE_SIZE,
    error,
)
from .socket import (
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SKB_SHARED_INFO,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    Address,
    MsgHdr,
    Net,
    ProtoOps,
    Sock,
    skb_truesize,
    wait_for_datagram,
)

MAX_DGRAM_QLEN = 10
# A stream's messages are cut: up to this size in one block, and the rest in pages.
SKB_MAX_HEAD = PAGE_SIZE - SKB_SHARED_INFO
UNIX_SKB_FRAGS_SIZE = 32_768


@dataclass(slots=True)
class Skb:
    """struct sk_buff: a message, or the rest of one, charged to `sender`."""

    data: bytes
    sender: UnixSock
    name: Address
    truesize: int
    files: list[File] = field(default_factory=list)


class UnixSock(Sock):
    """struct unix_sock."""

    def __init__(self, net: Net, ops: ProtoOps, family: int, kind: int, protocol: int) -> None:
        super().__init__(net, ops, family, kind, protocol)
        self.peer: UnixSock | None = None
        self.name: Address = ""
        self.bound_name: Address | None = None
        self.queue: deque[Skb] = deque()
        self.accept_queue: deque[UnixSock] = deque()
        self.backlog = 0
        # Datagram senders that found this queue full.
        self.waiting_senders: list[UnixSock] = []

    @property
    def stream(self) -> bool:
        return self.type != socket.SOCK_DGRAM

    def writable(self) -> bool:
        return self.state != TCP_LISTEN and self.wmem * 4 <= self.sndbuf

    def consumed(self, skb: Skb) -> None:
        """sock_wfree: the sender gets its room back, and a wake-up once it may write."""
        skb.sender.wmem -= skb.truesize
        if skb.sender.writable():
            skb.sender.write_space()

    def recvq_full(self) -> bool:
        return len(self.queue) > MAX_DGRAM_QLEN


def unix_create(net: Net, family: int, kind: int, protocol: int) -> Sock:
    if protocol not in (0, socket.AF_UNIX):
        raise error(errno.EPROTONOSUPPORT)
    ops = {
        socket.SOCK_STREAM: unix_stream_ops,
        socket.SOCK_DGRAM: unix_dgram_ops,
        socket.SOCK_SEQPACKET: unix_seqpacket_ops,
    }[socket.SocketKind(kind)]
    return UnixSock(net, ops, family, kind, protocol)


def unix_socketpair(one: Sock, two: Sock) -> None:
    assert isinstance(one, UnixSock)
    assert isinstance(two, UnixSock)
    one.peer, two.peer = two, one
    one.state = two.state = TCP_ESTABLISHED


def unix_name(address: Address) -> Address:
    """Return the name as the socket module has it: bytes if abstract, a string for a path."""
    if isinstance(address, (bytes, bytearray)):
        return bytes(address) if address[:1] == b"\0" else os.fsdecode(bytes(address))
    name = os.fspath(address)
    return os.fsencode(name) if name.startswith("\0") else name


def unix_bind(sk: UnixSock, address: Address) -> None:
    if sk.bound_name is not None:
        raise error(errno.EINVAL)
    address = unix_name(address)
    if address == "":
        sk.net.next_autobind += 1
        address = b"\0%05x" % sk.net.next_autobind
    if address in sk.net.unix_names:
        raise error(errno.EADDRINUSE)
    sk.net.unix_names[address] = sk
    sk.name = sk.bound_name = address


def unix_find(sk: UnixSock, address: Address) -> UnixSock:
    name = unix_name(address)
    other = sk.net.unix_names.get(name)
    if other is None:
        raise error(errno.ECONNREFUSED if isinstance(name, bytes) else errno.ENOENT)
    if other.dead:
        raise error(errno.ECONNREFUSED)
    if other.type != sk.type:
        raise error(errno.EPROTOTYPE)
    found: UnixSock = other
    return found


def unix_listen(sk: UnixSock, backlog: int) -> None:
    if not sk.stream:
        raise error(errno.EOPNOTSUPP)
    if sk.bound_name is None or sk.state not in (TCP_CLOSE, TCP_LISTEN):
        raise error(errno.EINVAL)
    if backlog > sk.backlog:
        sk.write_space()
    sk.backlog = backlog
    sk.state = TCP_LISTEN


def unix_stream_connect(sk: UnixSock, address: Address, nowait: bool) -> None:
    other = unix_find(sk, address)
    while True:
        if other.state != TCP_LISTEN or other.sk_shutdown & RCV_SHUTDOWN or other.dead:
            raise error(errno.ECONNREFUSED)
        if len(other.accept_queue) <= other.backlog:
            break
        if nowait:
            raise error(errno.EAGAIN)
        other.wait(
            lambda: len(other.accept_queue) <= other.backlog or other.dead,
            sk.sndtimeo_ns,
            exclusive=True,
        )
    if sk.state == TCP_ESTABLISHED:
        raise error(errno.EISCONN)
    if sk.state != TCP_CLOSE:
        raise error(errno.EINVAL)
    child = UnixSock(sk.net, sk.ops, sk.family, sk.type, sk.protocol)
    child.name = other.name
    unix_socketpair(sk, child)
    other.accept_queue.append(child)
    other.data_ready()


def unix_accept(sk: UnixSock, nowait: bool) -> UnixSock:
    if not sk.stream:
        raise error(errno.EOPNOTSUPP)
    if sk.state != TCP_LISTEN:
        raise error(errno.EINVAL)
    while not sk.accept_queue:
        if nowait:
            # Also after a shutdown, see wait_for_datagram.
            raise error(errno.EAGAIN)
        if sk.sk_shutdown & RCV_SHUTDOWN:
            raise error(errno.EINVAL)
        sk.wait(
            lambda: bool(sk.accept_queue) or bool(sk.sk_shutdown & RCV_SHUTDOWN),
            sk.rcvtimeo_ns,
            exclusive=True,
        )
    child = sk.accept_queue.popleft()
    # Tasks that wait for room in the backlog sleep on this queue as well.
    sk.sk_wq.wake_up(0)
    return child


def unix_getname(sk: UnixSock, peer: int) -> Address:
    if not peer:
        return sk.name
    if sk.peer is None:
        raise error(errno.ENOTCONN)
    return sk.peer.name


def unix_stream_sendmsg(
    sk: UnixSock,
    data: bytes,
    flags: int,
    address: Address,
    nowait: bool,
    files: list[File] | None = None,
) -> int:
    if flags & MSG_OOB:
        raise error(errno.EOPNOTSUPP)
    if address is not None:
        raise error(errno.EISCONN if sk.state == TCP_ESTABLISHED else errno.EOPNOTSUPP)
    peer = sk.peer
    if peer is None:
        raise error(errno.ENOTCONN)
    done = 0
    try:
        while True:
            if sk.sk_shutdown & SEND_SHUTDOWN or peer.dead or peer.sk_shutdown & RCV_SHUTDOWN:
                raise sk.broken_pipe(flags)
            if done == len(data):
                return done
            sk.raise_error()
            if sk.wmem >= sk.sndbuf:
                if nowait:
                    raise error(errno.EAGAIN)
                sk.wait(
                    lambda: sk.wmem < sk.sndbuf or bool(sk.sk_shutdown or sk.sk_err),
                    sk.sndtimeo_ns,
                )
                continue
            size = min((sk.sndbuf >> 1) - 64, SKB_MAX_HEAD + UNIX_SKB_FRAGS_SIZE)
            part = data[done : done + size]
            _enqueue(sk, peer, part, skb_truesize(len(part), SKB_MAX_HEAD), files)
            done += len(part)
    except OSError:
        if done:
            return done
        raise


def _enqueue(
    sk: UnixSock, other: UnixSock, data: bytes, truesize: int, files: list[File] | None
) -> None:
    sk.wmem += truesize
    skb = Skb(data, sk, sk.name, truesize)
    if files:
        # The message owns the references now.
        skb.files += files
        files.clear()
    other.queue.append(skb)
    other.data_ready()


def _pass_files(skb: Skb, flags: int, msg: MsgHdr | None) -> bool:
    """Hand the files of a message to its receiver, and return whether there were any."""
    if not skb.files:
        return False
    if flags & MSG_PEEK:
        if msg is not None:
            msg.files += [file.get() for file in skb.files]
        return True
    files, skb.files = skb.files, []
    if msg is not None:
        msg.files += files
    else:
        for file in files:
            file.put()
    return True


def unix_stream_recvmsg(
    sk: UnixSock, count: int, flags: int, nowait: bool, msg: MsgHdr | None
) -> tuple[bytes, Address]:
    if sk.state != TCP_ESTABLISHED:
        raise error(errno.EINVAL)
    if flags & MSG_OOB:
        raise error(errno.EOPNOTSUPP)
    while not sk.queue:
        sk.raise_error()
        if sk.sk_shutdown & RCV_SHUTDOWN:
            return b"", None
        if nowait:
            raise error(errno.EAGAIN)
        sk.wait(
            lambda: bool(sk.queue or sk.sk_err or sk.sk_shutdown & RCV_SHUTDOWN), sk.rcvtimeo_ns
        )
    parts: list[bytes] = []
    for skb in list(sk.queue):
        if count <= 0:
            break
        parts.append(skb.data[:count])
        count -= len(parts[-1])
        with_files = _pass_files(skb, flags, msg)
        if not flags & MSG_PEEK:
            skb.data = skb.data[len(parts[-1]) :]
            if skb.data:
                break
            sk.queue.popleft()
            sk.consumed(skb)
        if with_files:
            break
    return b"".join(parts), None


def _take_message(
    sk: UnixSock, count: int, flags: int, msg: MsgHdr | None
) -> tuple[bytes, Address]:
    skb = sk.queue[0]
    if msg is not None and count < len(skb.data):
        msg.flags |= MSG_TRUNC
    _pass_files(skb, flags, msg)
    if flags & MSG_PEEK:
        return skb.data[:count], skb.name or None
    sk.queue.popleft()
    sk.consumed(skb)
    waiting, sk.waiting_senders = sk.waiting_senders, []
    for sender in waiting:
        sender.write_space()
    return skb.data[:count], skb.name or None


def unix_dgram_connect(sk: UnixSock, address: Address, nowait: bool) -> None:
    if address is None:
        sk.peer, sk.state = None, TCP_CLOSE
        return
    sk.peer = unix_find(sk, address)
    sk.state = TCP_ESTABLISHED


def unix_dgram_sendmsg(
    sk: UnixSock,
    data: bytes,
    flags: int,
    address: Address,
    nowait: bool,
    files: list[File] | None = None,
) -> int:
    if flags & MSG_OOB:
        raise error(errno.EOPNOTSUPP)
    other = sk.peer if address is None else unix_find(sk, address)
    if other is None:
        raise error(errno.ENOTCONN)
    if len(data) > sk.sndbuf - 32:
        raise error(errno.EMSGSIZE)
    while True:
        sk.raise_error()
        if sk.sk_shutdown & SEND_SHUTDOWN:
            raise error(errno.EPIPE)
        if other.dead:
            if other is sk.peer:
                sk.peer, sk.state = None, TCP_CLOSE
            raise error(errno.ECONNREFUSED)
        if other.sk_shutdown & RCV_SHUTDOWN:
            raise error(errno.EPIPE)
        full = other.recvq_full() and other.peer is not sk
        if not full and sk.wmem < sk.sndbuf:
            _enqueue(sk, other, data, skb_truesize(len(data)), files)
            return len(data)
        if nowait:
            raise error(errno.EAGAIN)
        if full and sk not in other.waiting_senders:
            other.waiting_senders.append(sk)
        sk.wait(
            lambda: (
                other.dead
                or bool(sk.sk_shutdown & SEND_SHUTDOWN)
                or not (sk.wmem >= sk.sndbuf or (other.recvq_full() and other.peer is not sk))
            ),
            sk.sndtimeo_ns,
        )


def unix_dgram_recvmsg(
    sk: UnixSock, count: int, flags: int, nowait: bool, msg: MsgHdr | None
) -> tuple[bytes, Address]:
    if flags & MSG_OOB:
        raise error(errno.EOPNOTSUPP)
    if not wait_for_datagram(sk, sk.queue, nowait):
        return b"", None
    return _take_message(sk, count, flags, msg)


def unix_seqpacket_sendmsg(
    sk: UnixSock,
    data: bytes,
    flags: int,
    address: Address,
    nowait: bool,
    files: list[File] | None = None,
) -> int:
    """Send one message; the address is ignored."""
    sk.raise_error()
    if sk.state != TCP_ESTABLISHED:
        raise error(errno.ENOTCONN)
    return unix_dgram_sendmsg(sk, data, flags, None, nowait, files)


def unix_seqpacket_recvmsg(
    sk: UnixSock, count: int, flags: int, nowait: bool, msg: MsgHdr | None
) -> tuple[bytes, Address]:
    if sk.state != TCP_ESTABLISHED:
        raise error(errno.ENOTCONN)
    try:
        return unix_dgram_recvmsg(sk, count, flags, nowait, msg)
    except BlockingIOError:
        # Unlike a datagram socket it has an end, which a nonblocking call sees too.
        if sk.sk_shutdown & RCV_SHUTDOWN:
            return b"", None
        raise


def unix_shutdown(sk: UnixSock, mode: int) -> None:
    sk.sk_shutdown |= mode
    peer = sk.peer
    sk.state_change()
    if peer is not None and sk.stream:
        if mode & RCV_SHUTDOWN:
            peer.sk_shutdown |= SEND_SHUTDOWN
        if mode & SEND_SHUTDOWN:
            peer.sk_shutdown |= RCV_SHUTDOWN
        peer.state_change()


def unix_release(sk: UnixSock) -> None:
    sk.dead = True
    listening = sk.state == TCP_LISTEN
    sk.state = TCP_CLOSE
    sk.sk_shutdown = SHUTDOWN_MASK
    # An abstract name goes with its socket; a path stays and refuses connections.
    name = sk.bound_name
    if isinstance(name, bytes):
        sk.net.unix_names.pop(name, None)
    for sender in sk.waiting_senders:
        sender.write_space()
    peer = sk.peer
    if peer is not None and sk.stream:
        peer.sk_shutdown = SHUTDOWN_MASK
        if sk.queue or (listening and sk.accept_queue):
            peer.sk_err = errno.ECONNRESET
        peer.state_change()
    for child in sk.accept_queue:
        if child.peer is not None:
            child.peer.sk_err = errno.ECONNRESET
        unix_release(child)
    sk.accept_queue.clear()
    _purge_queue(sk)
    if listening:
        sk.state_change()


def _purge_queue(sk: UnixSock) -> None:
    while sk.queue:
        skb = sk.queue.popleft()
        _pass_files(skb, 0, None)
        sk.consumed(skb)


def unix_inq(sk: UnixSock) -> int:
    """unix_inq_len: the bytes of a stream, the size of the next message. EINVAL for a listener."""
    if sk.state == TCP_LISTEN:
        raise error(errno.EINVAL)
    if sk.type == socket.SOCK_DGRAM:
        return len(sk.queue[0].data) if sk.queue else 0
    return sum(len(skb.data) for skb in sk.queue)


def unix_poll_mask(sk: UnixSock, events: int) -> int:
    mask = sk.end_events()
    if sk.queue or sk.accept_queue:
        mask |= EPOLLIN | EPOLLRDNORM
    if sk.stream and sk.state == TCP_CLOSE:
        mask |= EPOLLHUP
    if sk.writable():
        mask |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND
    return mask


def unix_dgram_poll_mask(sk: UnixSock, events: int) -> int:
    mask = unix_poll_mask(sk, events)
    peer = sk.peer
    if not events & EPOLLOUT or peer is None or peer.peer is sk or not peer.recvq_full():
        return mask
    # Not writable until the receiver reads: that read wakes this socket.
    if sk not in peer.waiting_senders:
        peer.waiting_senders.append(sk)
    return mask & ~(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)


unix_stream_ops: ProtoOps = ProtoOps(
    bind=unix_bind,
    connect=unix_stream_connect,
    listen=unix_listen,
    accept=unix_accept,
    shutdown=unix_shutdown,
    sendmsg=unix_stream_sendmsg,
    sendmsg_files=unix_stream_sendmsg,
    inq=unix_inq,
    recvmsg=unix_stream_recvmsg,
    getname=unix_getname,
    release=unix_release,
    poll_mask=unix_poll_mask,
)

unix_dgram_ops: ProtoOps = ProtoOps(
    bind=unix_bind,
    connect=unix_dgram_connect,
    listen=unix_listen,
    accept=unix_accept,
    shutdown=unix_shutdown,
    sendmsg=unix_dgram_sendmsg,
    sendmsg_files=unix_dgram_sendmsg,
    inq=unix_inq,
    recvmsg=unix_dgram_recvmsg,
    getname=unix_getname,
    release=unix_release,
    poll_mask=unix_dgram_poll_mask,
)

unix_seqpacket_ops: ProtoOps = ProtoOps(
    bind=unix_bind,
    connect=unix_stream_connect,
    listen=unix_listen,
    accept=unix_accept,
    shutdown=unix_shutdown,
    sendmsg=unix_seqpacket_sendmsg,
    sendmsg_files=unix_seqpacket_sendmsg,
    inq=unix_inq,
    recvmsg=unix_seqpacket_recvmsg,
    getname=unix_getname,
    release=unix_release,
    poll_mask=unix_dgram_poll_mask,
)


def unix_init(net: Net) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        net.create[socket.AF_UNIX, kind] = unix_create
