"""net/ipv4/{tcp,tcp_input,tcp_output,inet_connection_sock}.c: streams over the in-process network.

Facts: segments arrive by softirq in the order they were sent. Only SYNs that find a full accept
queue are lost, and are sent again after 1, 2, 4, … seconds. Sent data is charged to the sender
until it is acknowledged; received data takes window until it is read. Closing with unread data, or
with SO_LINGER of zero, resets; so does data for a socket that is closed.
An urgent byte travels in the stream and is kept beside it. A read stops before its place in the
stream; the next read skips it, and then the byte is gone even if no MSG_OOB read took it.
A second one makes the first an ordinary byte, or drops it if it is the next byte to read.

Rule: `poll_mask` reads one socket's state, in tcp_poll's order. Data and room wake with the broad
socket keys, FIN and RST through state_change, without a key.

Left out: congestion control, delayed ACKs, Nagle, SACK, keepalive, TIME_WAIT (a port is free once
both ends are closed), SYN cookies, SO_OOBINLINE, zero-window probes (a window opens by an ACK).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from typing import Any

from ..hrtimer import HrTimer
from ..uapi import (
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDNORM,
    EPOLLWRNORM,
    NSEC_PER_SEC,
    error,
)
from .inet import ANY, InetSock, inet_bind, inet_getname, lookup_listeners
from .socket import (
    MSG_OOB,
    MSG_PEEK,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
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

MSS = 32_741
TCP_SNDBUF = 87_040
TCP_RCVBUF = 131_072
SYN_RETRIES = 6
SENDING = (TCP_ESTABLISHED, TCP_CLOSE_WAIT)
# socket->state: decides what connect(2) does next; it is not the state of the connection.
SS_UNCONNECTED = 1
SS_CONNECTING = 2
SS_CONNECTED = 3
NO_QUEUE: deque[Any] = deque()


class TcpSock(InetSock):
    """struct tcp_sock."""

    table = "tcp"

    # Of Sock: its methods here write them.
    sk_err: int
    sk_shutdown: int
    state: int

    def __init__(self, net: Net, ops: ProtoOps, family: int, kind: int, protocol: int) -> None:
        super().__init__(net, ops, family, kind, protocol)
        self.sndbuf = TCP_SNDBUF
        self.rcvbuf = TCP_RCVBUF
        self.peer: TcpSock | None = None
        self.ss_state = SS_UNCONNECTED
        # A listener's; the others have this empty one.
        self.accept_queue: deque[TcpSock] = NO_QUEUE
        self.backlog = 0
        # Only while a SYN is out: the timer refers to the socket, which could not be freed at once.
        self.syn_timer: HrTimer | None = None
        self.syn_sent_times: int = 0
        # Sending: segments not sent yet, bytes sent and not acknowledged yet.
        self.write_queue: deque[tuple[bytes, bool]] = deque()
        self.fin_queued: bool = False
        self.window: int = 0
        # Receiving. `urgent_at` is how far ahead the urgent byte's place is, `urgent` the byte
        # until a read takes it.
        self.receive_buffer: bytearray = bytearray()
        self.rmem: int = 0
        self.urgent_at: int | None = None
        self.urgent: bytes | None = None
        # SOCK_DONE: a FIN came. Then a read returns the end even if a reset came after it.
        self.sock_done: bool = False
        self.advertised: int = TCP_RCVBUF

    # Sending

    def send_to_peer(self, action: str, *args: Any) -> None:
        """Put a segment on the wire; `action` is the peer's method that receives it."""
        peer = self.peer

        def arrive() -> None:
            # A socket that was disconnected meanwhile receives nothing of its old connection.
            if peer is not None and peer.peer is self:
                getattr(peer, action)(*args)

        if peer is not None:
            self.net.deliver(arrive)

    def push(self) -> None:
        """Send the data that the peer's window allows, then the FIN."""
        while self.write_queue and self.window > 0:
            data, urgent = self.write_queue.popleft()
            if len(data) > self.window:
                self.write_queue.appendleft((data[self.window :], urgent))
                data, urgent = data[: self.window], False
            self.window -= len(data)
            self.send_to_peer("rcv_data", data, urgent)
        if self.fin_queued and not self.write_queue:
            self.fin_queued = False
            self.send_to_peer("rcv_fin")

    def stream_writable(self) -> bool:
        """sk_stream_is_writeable: at least a third of the buffer is free."""
        return self.sndbuf - self.wmem >= self.wmem >> 1

    def send_fin(self) -> None:
        self.fin_queued = True
        self.push()

    def send_reset(self) -> None:
        self.send_to_peer("rcv_reset")

    # Receiving: all of these run in softirq context.

    def rcv_data(self, data: bytes, urgent: bool) -> None:
        if self.state == TCP_CLOSE:
            self.send_reset()
            return
        if urgent:
            # Before the data, so the urgent byte is kept even where the data is refused.
            if self.urgent_at == 0:
                self.consume(1)
            self.urgent_at = len(self.receive_buffer) + len(data) - 1
            self.urgent = data[-1:]
        if self.sk_shutdown & RCV_SHUTDOWN and self.state in (TCP_FIN_WAIT1, TCP_FIN_WAIT2):
            # RFC 1122: data for a side that has closed both ways causes a reset.
            self.rcv_reset()
            self.send_reset()
            return
        self.rmem += len(data)
        self.advertised -= len(data)
        self.receive_buffer += data
        self.send_to_peer("rcv_ack", len(data), 0)
        self.data_ready()

    def consume(self, count: int) -> bytes:
        """Take bytes out of the receive buffer; past its place the urgent byte is lost."""
        data = bytes(self.receive_buffer[:count])
        del self.receive_buffer[:count]
        self.rmem -= len(data)
        if self.urgent_at is not None:
            self.urgent_at -= len(data)
            if self.urgent_at < 0:
                self.urgent_at = self.urgent = None
        return data

    def stream_readable(self) -> bool:
        """Whether there is a byte to read besides the urgent one."""
        return len(self.receive_buffer) > (self.urgent_at == 0)

    def rcv_ack(self, acked: int, window: int) -> None:
        """`acked` bytes are out of the send buffer, `window` more may be sent."""
        if self.state == TCP_CLOSE:
            return
        self.wmem -= acked
        self.window += window
        self.push()
        if acked and self.stream_writable() and not self.dead:
            self.write_space()

    def rcv_fin(self) -> None:
        if self.state == TCP_CLOSE:
            return
        self.sk_shutdown |= RCV_SHUTDOWN
        self.sock_done = True
        self.send_to_peer("rcv_fin_ack")
        if self.state == TCP_ESTABLISHED:
            self.state = TCP_CLOSE_WAIT
        elif self.state == TCP_FIN_WAIT1:
            self.state = TCP_CLOSING
        elif self.state == TCP_FIN_WAIT2:
            self.done()
            return
        self.state_change()

    def rcv_fin_ack(self) -> None:
        if self.state == TCP_FIN_WAIT1:
            self.state = TCP_FIN_WAIT2
            self.sk_shutdown |= SEND_SHUTDOWN
            self.state_change()
        elif self.state in (TCP_CLOSING, TCP_LAST_ACK):
            self.done()

    def rcv_reset(self) -> None:
        if self.state == TCP_CLOSE:
            return
        codes = {TCP_SYN_SENT: errno.ECONNREFUSED, TCP_CLOSE_WAIT: errno.EPIPE}
        self.sk_err = codes.get(self.state, errno.ECONNRESET)
        # The state changes first, so a woken task sees the error and the end together.
        self.done()
        self.error_report()

    def done(self) -> None:
        """tcp_done: the connection is over in both directions."""
        self.cancel_syn_timer()
        self.state = TCP_CLOSE
        self._part()
        self.sk_shutdown = SHUTDOWN_MASK
        self.write_queue.clear()
        self.fin_queued = False
        if self.dead:
            self.unhash()
        else:
            self.state_change()

    def _part(self) -> None:
        """Let go of the peer once both are closed: nothing keeps the two alive then."""
        peer = self.peer
        if peer is None:
            return
        if peer.peer is not self:
            self.peer = None
        elif peer.state == TCP_CLOSE:
            self.peer = peer.peer = None

    # Opening

    def send_syn(self) -> None:
        self.syn_sent_times += 1
        delay = NSEC_PER_SEC << (self.syn_sent_times - 1)
        clock = self.net.sched.clock
        if self.syn_timer is None:
            self.syn_timer = HrTimer(self._syn_timeout)
        clock.start(self.syn_timer, clock.now_ns + delay)
        self.net.deliver(self._rcv_syn)

    def cancel_syn_timer(self) -> None:
        if self.syn_timer is not None:
            self.net.sched.clock.cancel(self.syn_timer)
            self.syn_timer = None

    def _syn_timeout(self) -> None:
        if self.syn_sent_times > SYN_RETRIES:
            self.sk_err = errno.ETIMEDOUT
            self.error_report()
            self.done()
        else:
            self.send_syn()

    def _rcv_syn(self) -> None:
        """The SYN arrives: at a listener with room, at one without, or nowhere."""
        if self.state != TCP_SYN_SENT:
            return
        listeners = lookup_listeners(self.net, TcpSock, self.family, self.peer_host, self.peer_port)
        if not listeners:
            self.net.deliver(self.rcv_reset)
            return
        listener = listeners[0]
        if len(listener.accept_queue) > listener.backlog:
            return
        child = TcpSock(self.net, self.ops, self.family, self.type, self.protocol)
        child.host, child.port = self.peer_host, self.peer_port
        child.peer_host, child.peer_port = self.host, self.port
        child.options = dict(listener.options)
        child.sndbuf, child.rcvbuf = listener.sndbuf, listener.rcvbuf
        child.advertised = child.rcvbuf
        child.window = self.rcvbuf
        child.peer = self
        child.state = TCP_ESTABLISHED
        child.ss_state = SS_CONNECTED
        child.hash()
        listener.accept_queue.append(child)
        listener.data_ready()
        self.net.deliver(lambda: self._rcv_synack(child))

    def _rcv_synack(self, child: TcpSock) -> None:
        if self.state != TCP_SYN_SENT:
            self.net.deliver(child.rcv_reset)
            return
        self.cancel_syn_timer()
        self.peer = child
        self.window = child.rcvbuf
        self.advertised = self.rcvbuf
        self.state = TCP_ESTABLISHED
        self.state_change()
        self.write_space()
        self.push()


def tcp_create(net: Net, family: int, kind: int, protocol: int) -> Sock:
    if protocol not in (0, socket.IPPROTO_TCP):
        raise error(errno.EPROTONOSUPPORT)
    return TcpSock(net, tcp_ops, family, kind, socket.IPPROTO_TCP)


def tcp_connect(sk: TcpSock, address: Address, nowait: bool) -> None:
    """inet_stream_connect: begin a connection, or report its end. None (AF_UNSPEC) disconnects."""
    if address is None:
        tcp_disconnect(sk)
        return
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
    try:
        host, port = sk.parse(address)
    except OSError as exc:
        if exc.errno == errno.EADDRNOTAVAIL:
            raise error(errno.ENETUNREACH) from None
        raise
    sk.sk_shutdown = 0
    sk.sock_done = False
    sk.peer_host = sk.loopback if host in ANY else host
    sk.peer_port = port
    if not sk.port:
        sk.get_port(sk.loopback, 0)
    elif sk.host in ANY:
        sk.host = sk.loopback
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
    sk.peer = None
    sk.peer_port = 0
    sk.sk_shutdown = 0
    sk.ss_state = SS_UNCONNECTED
    sk.error_report()


def tcp_listen(sk: TcpSock, backlog: int) -> None:
    if sk.state not in (TCP_CLOSE, TCP_LISTEN):
        raise error(errno.EINVAL)
    if not sk.port:
        sk.get_port(sk.host, 0)
    elif sk.state == TCP_CLOSE and any(
        not (other.reuse_port() and sk.reuse_port())
        for other in lookup_listeners(sk.net, TcpSock, sk.family, sk.host, sk.port)
    ):
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
        return _recv_urgent(sk, flags), None
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
    free = sk.rcvbuf - sk.rmem
    # Open the window in large steps, as tcp_cleanup_rbuf does, or at once when it was shut. It
    # never shrinks, even where SO_RCVBUF became smaller.
    opened = free - sk.advertised
    if opened > 0 and (opened >= min(sk.rcvbuf // 2, 2 * MSS) or sk.advertised <= 0):
        sk.send_to_peer("rcv_ack", 0, opened)
        sk.advertised = free
    return data, None


def _recv_urgent(sk: TcpSock, flags: int) -> bytes:
    if sk.urgent is None:
        raise error(errno.EINVAL)
    if sk.state == TCP_CLOSE and not sk.sock_done:
        raise error(errno.ENOTCONN)
    data = sk.urgent
    if not flags & MSG_PEEK:
        sk.urgent = None
    return data


def tcp_inq(sk: TcpSock) -> int:
    """tcp_ioctl: the bytes before the urgent one, or all behind it. EINVAL for a listener."""
    if sk.state == TCP_LISTEN:
        raise error(errno.EINVAL)
    if sk.urgent_at:
        return sk.urgent_at
    return len(sk.receive_buffer) - (sk.urgent_at == 0)


def tcp_shutdown(sk: TcpSock, mode: int) -> None:
    if sk.ss_state == SS_CONNECTING:
        sk.ss_state = SS_CONNECTED
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
)


def tcp_init(net: Net) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        net.create[family, socket.SOCK_STREAM] = tcp_create
