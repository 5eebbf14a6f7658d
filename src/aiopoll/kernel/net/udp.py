"""net/ipv4/udp.c: datagrams.

Facts: a datagram arrives or is dropped. One for an unbound port comes back as an error to a
connected sender (ECONNREFUSED), at its next call. Room is the receiver's rcvbuf.
Left out: multicast, broadcast, corking, fragmentation.
"""

from __future__ import annotations

import errno
import socket
from collections import deque

from ..uapi import (
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
    error,
)
from .inet import ANY, InetSock, inet_bind, inet_getname, is_local, lookup
from .socket import (
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    SEND_SHUTDOWN,
    SKB_MAX_ALLOC,
    SKB_SIZE,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    Address,
    MsgHdr,
    Net,
    ProtoOps,
    Sock,
    skb_truesize,
    wait_for_datagram,
)
from .wire import UDP_HEADERS, Packet

# What fits into a packet: IPv6 does not count its own header.
UDP_MAX = 65_507
UDP6_MAX = 65_527
# How much of the datagram its error carries back.
ICMP_QUOTE = 28
# The bytes before the data in its block, and the size of the block for small datagrams.
UDP_HEADROOM = 59
UDP_SMALLEST = 576


def udp_truesize(data: bytes) -> int:
    """Return the charge for a datagram. Data too long for one block is charged by the byte."""
    if len(data) + UDP_HEADROOM > SKB_MAX_ALLOC:
        return SKB_SIZE + UDP_SMALLEST + len(data)
    return skb_truesize(len(data) + UDP_HEADROOM, smallest=UDP_SMALLEST)


class UdpSock(InetSock):
    """struct udp_sock."""

    table = "udp"

    def __init__(self, net: Net, ops: ProtoOps, family: int, kind: int, protocol: int) -> None:
        super().__init__(net, ops, family, kind, protocol)
        self.queue: deque[tuple[bytes, Address]] = deque()
        self.rmem: int = 0
        self.drops: int = 0

    def receive(self, data: bytes, sender: Address) -> None:
        truesize = udp_truesize(data)
        # However small the buffer is, one datagram fits.
        if self.dead or (self.rmem and self.rmem + truesize > self.rcvbuf):
            self.drops += 1
            return
        self.rmem += truesize
        self.queue.append((data, sender))
        self.data_ready()


def udp_create(net: Net, family: int, kind: int, protocol: int) -> Sock:
    if protocol not in (0, socket.IPPROTO_UDP):
        raise error(errno.EPROTONOSUPPORT)
    return UdpSock(net, udp_ops, family, kind, socket.IPPROTO_UDP)


def udp_connect(sk: UdpSock, address: Address, nowait: bool) -> None:
    if address is None:
        sk.peer_host, sk.peer_port, sk.state = "", 0, TCP_CLOSE
        sk.reset_host()
        sk.put_port()
        sk.last_port = 0
        return
    sk.autobind()
    host, port = sk.parse_destination(address)
    if host in ANY:
        host = sk.loopback
    if sk.host in ANY:
        sk.host = sk.source_for(host)
    sk.peer_host, sk.peer_port, sk.state = host, port, TCP_ESTABLISHED


def udp_sendmsg(sk: UdpSock, data: bytes, flags: int, address: Address, nowait: bool) -> int:
    # Also where it fails: inet_send_prepare.
    sk.autobind()
    six = sk.family == socket.AF_INET6
    # Crude checks that IPv4 makes first, and IPv6 not at all.
    if len(data) > 0xFFFF and not six:
        raise error(errno.EMSGSIZE)
    if flags & MSG_OOB and not six:
        raise error(errno.EOPNOTSUPP)
    if address is not None:
        host, port = sk.parse_destination(address)
        if not port:
            raise error(errno.EINVAL)
    elif sk.state == TCP_ESTABLISHED:
        host, port = sk.peer_host, sk.peer_port
    else:
        raise error(errno.EDESTADDRREQ)
    if host in ANY:
        host = sk.loopback
    if len(data) > (UDP6_MAX if six else UDP_MAX):
        raise error(errno.EMSGSIZE)
    sk.raise_error()
    if sk.sk_shutdown & SEND_SHUTDOWN:
        # Of all broken sockets, only streams send SIGPIPE.
        raise error(errno.EPIPE)
    source = sk.address(False)
    if sk.host in ANY:
        source = (sk.source_for(host), *source[1:])
    if not sk.is_own(host):
        _send_packet(sk, data, source, host, port)
        return len(data)

    def arrive() -> None:
        if not _receive(sk.net, sk.family, data, source, host, port):
            _refuse(sk, host, port)

    sk.net.deliver(arrive)
    return len(data)


def _receive(net: Net, family: int, data: bytes, source: Address, host: str, port: int) -> bool:
    """Give a datagram to the socket of (host, port); False if there is none."""
    for receiver in lookup(net, UdpSock, family, host, port):
        if not receiver.peer_port or (receiver.peer_host, receiver.peer_port) == source[:2]:
            receiver.receive(data, source)
            return True
    return False


def _refuse(sk: UdpSock, host: str, port: int) -> None:
    """ICMP: the port was unreachable. It is an error of the socket that is connected to it."""
    connected = sk.state == TCP_ESTABLISHED and (sk.peer_host, sk.peer_port) == (host, port)
    if connected and not sk.dead:
        sk.sk_err = errno.ECONNREFUSED
        sk.error_report()


def _send_packet(sk: UdpSock, data: bytes, source: Address, host: str, port: int) -> None:
    if is_local(source[0], sk.family):
        # Loopback's address does not leave the machine.
        raise error(errno.EINVAL)

    def refused(net: Net, packet: Packet) -> None:
        if net is sk.net:
            _refuse(sk, host, port)

    def arrive(net: Net, packet: Packet) -> None:
        if not _receive(net, sk.family, data, source, host, port):
            size = UDP_HEADERS + min(len(data), ICMP_QUOTE)
            net.wire.send(Packet(net, host, source[0], "icmp", "port unreachable", size, refused))

    size = len(data) + UDP_HEADERS
    sk.net.wire.send(Packet(sk.net, source[0], host, "udp", "datagram", size, arrive))


def udp_recvmsg(
    sk: UdpSock, count: int, flags: int, nowait: bool, msg: MsgHdr | None
) -> tuple[bytes, Address]:
    if not wait_for_datagram(sk, sk.queue, nowait):
        return b"", None
    data, sender = sk.queue[0]
    if not flags & MSG_PEEK:
        sk.queue.popleft()
        sk.rmem -= udp_truesize(data)
    if msg is not None and count < len(data):
        msg.flags |= MSG_TRUNC
    return data[:count], sender


def udp_inq(sk: UdpSock) -> int:
    """Return the size of the next datagram."""
    return len(sk.queue[0][0]) if sk.queue else 0


def udp_shutdown(sk: UdpSock, mode: int) -> None:
    sk.sk_shutdown |= mode
    sk.state_change()
    if not sk.peer_port:
        raise error(errno.ENOTCONN)


def udp_release(sk: UdpSock) -> None:
    sk.dead = True
    sk.unhash()
    sk.queue.clear()


def datagram_poll_mask(sk: UdpSock, events: int) -> int:
    mask = sk.end_events() | EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND
    if sk.queue:
        mask |= EPOLLIN | EPOLLRDNORM
    return mask


udp_ops: ProtoOps = ProtoOps(
    bind=inet_bind,
    connect=udp_connect,
    shutdown=udp_shutdown,
    sendmsg=udp_sendmsg,
    recvmsg=udp_recvmsg,
    getname=inet_getname,
    release=udp_release,
    poll_mask=datagram_poll_mask,
    inq=udp_inq,
)


def udp_init(net: Net) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        net.create[family, socket.SOCK_DGRAM] = udp_create
