"""net/unix/af_unix.c: Unix datagrams and sequenced packets.

Facts: a queue that holds more than ten messages makes its senders wait. A connected socket takes
messages from its peer alone. When a connection goes, what its peer sent is lost.
Sequenced packets are connected as streams are, and sent and received as datagrams.
Rule: errors come in the order of 6.18: size, own state and room first, then name, peer, its room.
Left out: socket filters; in older kernels a missing peer comes before the size.
"""

from __future__ import annotations

import errno

from ..file import File
from ..uapi import (
    EPOLLOUT,
    EPOLLWRBAND,
    EPOLLWRNORM,
    error,
)
from .socket import (
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    Address,
    MsgHdr,
    skb_truesize,
    wait_for_datagram,
)
from .unix_sock import (
    UnixSock,
    enqueue,
    pass_files,
    purge_queue,
    unix_find,
    unix_poll_mask,
    wake_senders,
)


def unix_may_send(sk: UnixSock, other: UnixSock) -> bool:
    """A socket that is connected takes messages from its peer alone."""
    return other.peer is None or other.peer is sk


def unix_dgram_connect(sk: UnixSock, address: Address, nowait: bool) -> None:
    """Set the peer; None takes it away. EPERM if that is connected to another."""
    other = None if address is None else unix_find(sk, address)
    if other is not None and not unix_may_send(sk, other):
        raise error(errno.EPERM)
    before, sk.peer = sk.peer, other
    sk.state = TCP_CLOSE if other is None else TCP_ESTABLISHED
    if before is not None and before is not other:
        _disconnected(sk, before)


def _disconnected(sk: UnixSock, other: UnixSock) -> None:
    """unix_dgram_disconnected: what the old peer sent is lost, and it gets to know that."""
    if sk in other.waiting_senders:
        other.waiting_senders.remove(sk)
        sk.write_space()
    if not sk.queue:
        return
    purge_queue(sk)
    wake_senders(sk)
    if not other.dead and other.peer is sk:
        other.sk_err = errno.ECONNRESET
        other.error_report()


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
    if len(data) > sk.sndbuf - 32:
        raise error(errno.EMSGSIZE)
    # The memory comes first, sock_alloc_send_pskb; today the peer comes after it.
    while True:
        sk.raise_error()
        if sk.sk_shutdown & SEND_SHUTDOWN:
            raise error(errno.EPIPE)
        if sk.wmem < sk.sndbuf:
            break
        if nowait:
            raise error(errno.EAGAIN)
        sk.wait(
            lambda: sk.wmem < sk.sndbuf or bool(sk.sk_shutdown & SEND_SHUTDOWN or sk.sk_err),
            sk.sndtimeo_ns,
        )
    other = sk.peer if address is None else unix_find(sk, address)
    while True:
        other = _living(sk, other, address)
        if other.sk_shutdown & RCV_SHUTDOWN:
            raise error(errno.EPIPE)
        if other is sk or other.peer is sk or not other.recvq_full():
            enqueue(sk, other, data, skb_truesize(len(data)), files)
            return len(data)
        if nowait:
            raise error(errno.EAGAIN)
        _wait_for_peer(sk, other)


def _living(sk: UnixSock, other: UnixSock | None, address: Address) -> UnixSock:
    """Return the receiver, if it may be sent to. EPERM, ECONNREFUSED and those of unix_find."""
    if other is None:
        raise error(errno.ENOTCONN)
    if not unix_may_send(sk, other):
        raise error(errno.EPERM)
    if not other.dead:
        return other
    if other is sk.peer:
        sk.peer, sk.state = None, TCP_CLOSE
        _disconnected(sk, other)
        raise error(errno.ECONNREFUSED)
    if address is None:
        raise error(errno.ECONNREFUSED)
    # It went during the wait: perhaps another has its name by now.
    return _living(sk, unix_find(sk, address), address)


def _wait_for_peer(sk: UnixSock, other: UnixSock) -> None:
    """unix_wait_for_peer: sleep until `other` has room, or will never have. EAGAIN, EINTR."""
    if sk not in other.waiting_senders:
        other.waiting_senders.append(sk)
    sk.wait(
        lambda: (
            other.dead
            or bool(other.sk_shutdown & RCV_SHUTDOWN)
            or not (other.recvq_full() and other.peer is not sk)
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


def _take_message(
    sk: UnixSock, count: int, flags: int, msg: MsgHdr | None
) -> tuple[bytes, Address]:
    skb = sk.queue[0]
    if msg is not None and count < len(skb.data):
        msg.flags |= MSG_TRUNC
    pass_files(skb, flags, msg)
    if flags & MSG_PEEK:
        return skb.data[:count], skb.sender.name or None
    sk.queue.popleft()
    sk.consumed(skb)
    wake_senders(sk)
    return skb.data[:count], skb.sender.name or None


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


def unix_dgram_poll_mask(sk: UnixSock, events: int) -> int:
    mask = unix_poll_mask(sk, events)
    peer = sk.peer
    if not events & EPOLLOUT or peer is None or peer.peer is sk or not peer.recvq_full():
        return mask
    # Not writable until the receiver reads: that read wakes this socket.
    if sk not in peer.waiting_senders:
        peer.waiting_senders.append(sk)
    return mask & ~(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)
