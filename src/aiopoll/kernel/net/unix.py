"""net/unix/af_unix.c: Unix streams, and the tables of operations.

Facts: a listener's queue holds one connection more than its backlog.
Rule: descriptors go with the first byte of a message; a read stops behind that message.
Left out: the urgent data that streams have since 5.15.
"""

from __future__ import annotations

import errno
import socket

from ..file import File
from ..uapi import PAGE_SIZE, error
from .socket import (
    MSG_OOB,
    MSG_PEEK,
    MSG_WAITALL,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
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
)
from .unix_dgram import (
    unix_dgram_connect,
    unix_dgram_poll_mask,
    unix_dgram_recvmsg,
    unix_dgram_sendmsg,
    unix_seqpacket_recvmsg,
    unix_seqpacket_sendmsg,
)
from .unix_sock import (
    UnixSock,
    enqueue,
    pass_files,
    unix_bind,
    unix_find,
    unix_getname,
    unix_inq,
    unix_poll_mask,
    unix_release,
    unix_shutdown,
    unix_socketpair,
)

# A stream's messages are cut: up to this size in one block, and the rest in pages.
SKB_MAX_HEAD = PAGE_SIZE - SKB_SHARED_INFO
UNIX_SKB_FRAGS_SIZE = 32_768


def unix_create(net: Net, family: int, kind: int, protocol: int) -> Sock:
    if protocol not in (0, socket.AF_UNIX):
        raise error(errno.EPROTONOSUPPORT)
    ops = {
        socket.SOCK_STREAM: unix_stream_ops,
        socket.SOCK_DGRAM: unix_dgram_ops,
        socket.SOCK_SEQPACKET: unix_seqpacket_ops,
    }[socket.SocketKind(kind)]
    return UnixSock(net, ops, family, kind, protocol)


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
            enqueue(sk, peer, part, skb_truesize(len(part), SKB_MAX_HEAD), files)
            done += len(part)
    except OSError:
        if done:
            return done
        raise


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
    peeked = 0
    # A stream has one writer, which may have a name.
    sender = sk.queue[0].sender.name or None
    while peeked < len(sk.queue):
        skb = sk.queue[peeked]
        parts.append(skb.data[:count])
        count -= len(parts[-1])
        with_files = pass_files(skb, flags, msg)
        if flags & MSG_PEEK:
            peeked += 1
        else:
            skb.data = skb.data[len(parts[-1]) :]
            if skb.data:
                break
            sk.queue.popleft()
            sk.consumed(skb)
        if with_files or not count:
            break
    else:
        if flags & MSG_WAITALL and not sk.queue:
            # It looked at the empty queue too, and took the error that it found there.
            sk.sk_err = 0
    return b"".join(parts), sender


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
