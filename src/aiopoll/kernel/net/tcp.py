"""net/ipv4/{tcp,inet_connection_sock}.c: what system calls do with streams.

Facts: closing with unread data, or with SO_LINGER of zero, resets; so does data for a socket that
is closed. A read stops before the place of an urgent byte; the next read skips it, and then the
byte is gone even if no MSG_OOB read took it. See tcp_input.py for the connection itself.

Rule: `poll_mask` reads one socket's state, in tcp_poll's order.

Left out: SO_OOBINLINE, TCP_DEFER_ACCEPT, fast open, MSG_ZEROCOPY.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from typing import Any

from ..uapi import (
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDNORM,
    EPOLLWRNORM,
    TCP_USER_TIMEOUT,
    error,
)
from .inet import ANY, inet_bind, inet_getname, is_local
from .socket import (
    MSG_OOB,
    MSG_PEEK,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_SENT,
    Address,
    MsgHdr,
    Net,
    ProtoOps,
    Sock,
)
from .tcp_input import (
    MSS,
    NO_QUEUE,
    SENDING,
    SS_CONNECTED,
    SS_CONNECTING,
    SS_DISCONNECTING,
    SS_UNCONNECTED,
    TcpSock,
)
from .tcp_timer import KEEPALIVE_LIMITS
from .tcp_transfer import Transfer


def tcp_create(net: Net, family: int, kind: int, protocol: int) -> Sock:
    if protocol not in (0, socket.IPPROTO_TCP):
        raise error(errno.EPROTONOSUPPORT)
    return TcpSock(net, tcp_ops, family, kind, socket.IPPROTO_TCP)


def tcp_connect(sk: TcpSock, address: Address, nowait: bool) -> None:
    """inet_stream_connect: begin a connection, or report its end. None (AF_UNSPEC) disconnects."""
    if address is None:
        tcp_disconnect(sk)
        return
    if sk.ss_state == SS_DISCONNECTING:
        raise error(errno.EINVAL)
    unfinished = errno.EALREADY
    if sk.ss_state != SS_CONNECTING:
        if sk.ss_state == SS_CONNECTED or sk.state != TCP_CLOSE:
            raise error(errno.EISCONN)
        _begin_connect(sk, address)
        unfinished = errno.EINPROGRESS
    if sk.state == TCP_SYN_SENT:
        if nowait:
            raise error(unfinished)
        try:
            sk.wait(lambda: sk.state != TCP_SYN_SENT, sk.sndtimeo_ns)
        except BlockingIOError:
            raise error(unfinished) from None
    if sk.state == TCP_CLOSE:
        code, sk.sk_err = sk.sk_err or errno.ECONNABORTED, 0
        tcp_disconnect(sk)
        raise error(code)
    sk.ss_state = SS_CONNECTED


def _begin_connect(sk: TcpSock, address: Address) -> None:
    host, port = sk.parse_destination(address)
    source = sk.source_for(host)
    if not sk.is_own(host) and is_local(sk.host, sk.family) and sk.host not in ANY:
        # Loopback's address does not leave the machine.
        raise error(errno.EINVAL)
    sk.sk_err = 0
    sk.sock_done = False
    sk.peer_host = sk.loopback if host in ANY else host
    sk.peer_port = port
    if not sk.port:
        sk.get_port(source if sk.host in ANY else sk.host, 0)
    elif sk.host in ANY:
        sk.host = source
    if not sk.is_own(host):
        sk.transfer = Transfer(sk)
    sk.state = TCP_SYN_SENT
    sk.ss_state = SS_CONNECTING
    sk.syn_sent_times = 0
    sk.send_syn()


def tcp_disconnect(sk: TcpSock) -> None:
    """Give the connection up, in any state; the socket may listen or connect again."""
    before, sk.state = sk.state, TCP_CLOSE
    sk.cancel_syn_timer()
    if before == TCP_LISTEN:
        sk.unhash_listener()
        _stop_listening(sk)
    elif before in (*SENDING, TCP_FIN_WAIT1, TCP_FIN_WAIT2):
        sk.send_reset()
        sk.sk_err = errno.ECONNRESET
    elif before == TCP_SYN_SENT:
        sk.sk_err = errno.ECONNRESET
    sk.write_queue.clear()
    sk.receive_buffer.clear()
    sk.wmem = sk.rmem = 0
    sk.fin_queued = sk.sock_done = False
    sk.urgent_at = sk.urgent = None
    if sk.transfer is not None:
        sk.transfer.stop()
        sk.transfer = None
    if before != TCP_CLOSE:
        sk.put_port()
    sk.reset_host()
    sk.peer = None
    sk.peer_port = 0
    sk.sk_shutdown = 0
    sk.ss_state = SS_UNCONNECTED
    sk.error_report()


def tcp_listen(sk: TcpSock, backlog: int) -> None:
    if sk.ss_state != SS_UNCONNECTED or sk.state not in (TCP_CLOSE, TCP_LISTEN):
        raise error(errno.EINVAL)
    if not sk.port:
        sk.get_port(sk.host, 0)
    elif sk.state == TCP_CLOSE and sk.conflicts(sk.host, sk.port):
        # Another that shares the port may listen by now.
        raise error(errno.EADDRINUSE)
    sk.backlog = backlog
    if sk.state == TCP_CLOSE:
        sk.accept_queue = deque()
        sk.state = TCP_LISTEN
        sk.hash()


def tcp_accept(sk: TcpSock, nowait: bool) -> TcpSock:
    while not sk.accept_queue:
        if sk.state != TCP_LISTEN:
            raise error(errno.EINVAL)
        if nowait:
            raise error(errno.EAGAIN)
        sk.wait(
            lambda: bool(sk.accept_queue) or sk.state != TCP_LISTEN,
            sk.rcvtimeo_ns,
            exclusive=True,
        )
    return sk.accept_queue.popleft()


def tcp_sendmsg(sk: TcpSock, data: bytes, flags: int, address: Address, nowait: bool) -> int:
    if sk.state == TCP_SYN_SENT:
        if nowait:
            raise error(errno.EAGAIN)
        sk.wait(lambda: sk.state != TCP_SYN_SENT, sk.sndtimeo_ns)
    done = 0
    try:
        while True:
            if sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN or sk.state not in SENDING:
                raise sk.sock_error() or sk.broken_pipe(flags)
            if done == len(data):
                return done
            room = min(sk.sndbuf - sk.wmem, MSS)
            if room <= 0:
                if nowait:
                    raise error(errno.EAGAIN)
                sk.wait(
                    lambda: sk.stream_writable() or bool(sk.sk_err or sk.sk_shutdown & 2),
                    sk.sndtimeo_ns,
                )
                continue
            part = data[done : done + room]
            done += len(part)
            sk.wmem += len(part)
            urgent = bool(flags & MSG_OOB) and done == len(data)
            sk.write_queue.append((part, urgent))
            sk.push()
    except OSError:
        if done:
            return done
        raise


def tcp_recvmsg(
    sk: TcpSock, count: int, flags: int, nowait: bool, msg: MsgHdr | None
) -> tuple[bytes, Address]:
    if sk.state == TCP_LISTEN:
        raise error(errno.ENOTCONN)
    if flags & MSG_OOB:
        if msg is not None:
            msg.flags |= MSG_OOB
        return _recv_urgent(sk, count, flags), None
    if count == 0 and sk.receive_buffer:
        return b"", None
    while True:
        if sk.urgent_at == 0 and not flags & MSG_PEEK:
            sk.consume(1)
        if sk.stream_readable():
            break
        if sk.sock_done:
            return b"", None
        sk.raise_error()
        if sk.sk_shutdown & RCV_SHUTDOWN:
            return b"", None
        if sk.state == TCP_CLOSE:
            raise error(errno.ENOTCONN)
        if nowait:
            raise error(errno.EAGAIN)
        sk.wait(
            lambda: (
                (sk.urgent_at == 0 and not flags & MSG_PEEK)
                or sk.stream_readable()
                or bool(sk.sk_err or sk.sk_shutdown & RCV_SHUTDOWN)
                or sk.state == TCP_CLOSE
            ),
            sk.rcvtimeo_ns,
        )
    start = 1 if sk.urgent_at == 0 else 0
    stop = start + count
    if sk.urgent_at:
        stop = min(stop, sk.urgent_at)
    if flags & MSG_PEEK:
        return bytes(sk.receive_buffer[start:stop]), None
    data = sk.consume(stop)[start:]
    if sk.transfer is not None:
        sk.transfer.was_read(len(data))
        return data, None
    free = sk.rcvbuf - sk.rmem
    # Open the window in large steps, as tcp_cleanup_rbuf does, or at once when it was shut. It
    # never shrinks, even where SO_RCVBUF became smaller.
    opened = free - sk.advertised
    if opened > 0 and (opened >= min(sk.rcvbuf // 2, 2 * MSS) or sk.advertised <= 0):
        sk.send_to_peer("rcv_ack", 0, opened)
        sk.advertised = free
    return data, None


def _recv_urgent(sk: TcpSock, count: int, flags: int) -> bytes:
    if sk.urgent is None:
        raise error(errno.EINVAL)
    if sk.state == TCP_CLOSE and not sk.sock_done:
        raise error(errno.ENOTCONN)
    data = sk.urgent
    if not flags & MSG_PEEK:
        sk.urgent = None
    return data[:count]


def tcp_inq(sk: TcpSock) -> int:
    """tcp_inq: the bytes before the urgent one, if there is one. EINVAL for a listener."""
    if sk.state == TCP_LISTEN:
        raise error(errno.EINVAL)
    size = len(sk.receive_buffer)
    # The byte itself may have been refused.
    return size if sk.urgent_at is None else min(sk.urgent_at, size)


def tcp_shutdown(sk: TcpSock, mode: int) -> None:
    if sk.ss_state == SS_CONNECTING:
        ended = sk.state in (TCP_CLOSE, TCP_SYN_SENT)
        sk.ss_state = SS_DISCONNECTING if ended else SS_CONNECTED
    if sk.state == TCP_CLOSE:
        sk.sk_shutdown |= mode
        sk.state_change()
        raise error(errno.ENOTCONN)
    if sk.state == TCP_SYN_SENT or (sk.state == TCP_LISTEN and mode & RCV_SHUTDOWN):
        tcp_disconnect(sk)
        sk.state_change()
        return
    if sk.state == TCP_LISTEN:
        return
    sk.sk_shutdown |= mode
    if mode & SEND_SHUTDOWN:
        _close_state(sk)
    sk.state_change()


def _close_state(sk: TcpSock) -> None:
    following = {TCP_ESTABLISHED: TCP_FIN_WAIT1, TCP_CLOSE_WAIT: TCP_LAST_ACK}
    if sk.state in following:
        sk.state = following[sk.state]
        sk.send_fin()


def _stop_listening(sk: TcpSock) -> None:
    for child in sk.accept_queue:
        child.dead = True
        child.send_reset()
        child.done()
    sk.accept_queue = NO_QUEUE


def tcp_release(sk: TcpSock) -> None:
    sk.dead = True
    linger = sk.options.get((socket.SOL_SOCKET, socket.SO_LINGER))
    if isinstance(linger, bytes):
        linger = struct.unpack("ii", linger[:8])
    aborts = linger is not None and linger != 0 and bool(linger[0]) and not linger[1]
    if sk.state == TCP_LISTEN:
        _stop_listening(sk)
        sk.done()
    elif sk.state in (TCP_CLOSE, TCP_SYN_SENT):
        sk.done()
    elif sk.receive_buffer or aborts:
        sk.send_reset()
        sk.done()
    else:
        sk.sk_shutdown = SHUTDOWN_MASK
        _close_state(sk)
        if sk.transfer is not None:
            sk.transfer.was_orphaned()


def tcp_setsockopt(sk: TcpSock, level: int, option: int, value: Any) -> bool:
    """Set what the timers of a connection between machines look at. EINVAL."""
    if level == socket.IPPROTO_TCP and option in KEEPALIVE_LIMITS:
        if not 1 <= int(value) <= KEEPALIVE_LIMITS[option]:
            raise error(errno.EINVAL)
    elif level == socket.IPPROTO_TCP and option == TCP_USER_TIMEOUT:
        if int(value) < 0:
            raise error(errno.EINVAL)
    elif (level, option) == (socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        value = int(bool(value))
    else:
        return False
    sk.options[level, option] = value
    if sk.transfer is not None:
        sk.transfer.arm_keepalive()
    return True


def tcp_poll_mask(sk: TcpSock, events: int) -> int:
    if sk.state == TCP_LISTEN:
        return EPOLLIN | EPOLLRDNORM if sk.accept_queue else 0
    mask = sk.end_events()
    if sk.state == TCP_CLOSE:
        mask |= EPOLLHUP
    if sk.state != TCP_SYN_SENT:
        if sk.stream_readable():
            mask |= EPOLLIN | EPOLLRDNORM
        if sk.sk_shutdown & SEND_SHUTDOWN or sk.stream_writable():
            mask |= EPOLLOUT | EPOLLWRNORM
        if sk.urgent is not None:
            mask |= EPOLLPRI
    return mask


tcp_ops: ProtoOps = ProtoOps(
    bind=inet_bind,
    connect=tcp_connect,
    listen=tcp_listen,
    accept=tcp_accept,
    shutdown=tcp_shutdown,
    sendmsg=tcp_sendmsg,
    recvmsg=tcp_recvmsg,
    getname=inet_getname,
    release=tcp_release,
    poll_mask=tcp_poll_mask,
    inq=tcp_inq,
    setsockopt=tcp_setsockopt,
)


def tcp_init(net: Net) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        net.create[family, socket.SOCK_STREAM] = tcp_create
