"""net/unix/af_unix.c: what all Unix sockets share: names, queues, the end.

Facts: sent data goes straight to the peer's queue and is charged to the sender until it is
read; a sender is writable while at most a quarter of its buffer is charged. Closing with unread
data resets the peer. A path is created before it is seen whether the socket has a name.
Rule: `poll_mask` reads the state of one socket; a read that makes room wakes the sender's queue.
Left out: credentials, autobind races, path permissions.
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
    error,
)
from .socket import (
    MSG_PEEK,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    Address,
    MsgHdr,
    Net,
    ProtoOps,
    Sock,
)

MAX_DGRAM_QLEN = 10


@dataclass(slots=True)
class Skb:
    """struct sk_buff: a message, or the rest of one, charged to `sender`."""

    data: bytes
    sender: UnixSock
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


def unix_key(sk: UnixSock, name: str | bytes) -> str | bytes:
    """Return the key of a name in the table: each type of sockets has abstract names of its own."""
    return name if isinstance(name, str) else b"%d" % sk.type + name


def unix_bind(sk: UnixSock, address: Address) -> None:
    """Take a name. EINVAL if there is one: checked last for a path, which is created first.

    An accepted socket has the name of its listener.
    """
    address = unix_name(address)
    if address == "":
        if sk.name:
            return
        sk.net.next_autobind += 1
        address = b"\0%05x" % sk.net.next_autobind
    if sk.name and isinstance(address, bytes):
        raise error(errno.EINVAL)
    key = unix_key(sk, address)
    if key in sk.net.unix_names:
        raise error(errno.EADDRINUSE)
    if sk.name:
        raise error(errno.EINVAL)
    sk.net.unix_names[key] = sk
    sk.name = sk.bound_name = address


def unix_find(sk: UnixSock, address: Address) -> UnixSock:
    """Return the socket of a name. EINVAL (AF_UNSPEC), ENOENT, ECONNREFUSED, EPROTOTYPE."""
    if address is None:
        raise error(errno.EINVAL)
    name = unix_name(address)
    other = sk.net.unix_names.get(unix_key(sk, name))
    if other is None:
        raise error(errno.ECONNREFUSED if isinstance(name, bytes) else errno.ENOENT)
    if other.dead:
        raise error(errno.ECONNREFUSED)
    if other.type != sk.type:
        raise error(errno.EPROTOTYPE)
    found: UnixSock = other
    return found


def unix_getname(sk: UnixSock, peer: int) -> Address:
    if not peer:
        return sk.name
    if sk.peer is None:
        raise error(errno.ENOTCONN)
    return sk.peer.name


def enqueue(
    sk: UnixSock, other: UnixSock, data: bytes, truesize: int, files: list[File] | None
) -> None:
    sk.wmem += truesize
    skb = Skb(data, sk, truesize)
    if files:
        # The message owns the references now.
        skb.files += files
        files.clear()
    other.queue.append(skb)
    other.data_ready()


def pass_files(skb: Skb, flags: int, msg: MsgHdr | None) -> bool:
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


def purge_queue(sk: UnixSock) -> None:
    while sk.queue:
        skb = sk.queue.popleft()
        pass_files(skb, 0, None)
        sk.consumed(skb)


def wake_senders(sk: UnixSock) -> None:
    waiting, sk.waiting_senders = sk.waiting_senders, []
    for sender in waiting:
        sender.write_space()


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
        sk.net.unix_names.pop(unix_key(sk, name), None)
    wake_senders(sk)
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
    purge_queue(sk)
    sk.peer = None
    if listening:
        sk.state_change()


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
