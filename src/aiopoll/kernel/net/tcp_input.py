"""net/ipv4/{tcp_input,tcp_output,tcp_timer}.c: the state of a stream, and its segments.

Facts: segments arrive by softirq in the order they were sent. Only SYNs that find a full accept
queue are lost, and are sent again after 1, 2, 4, … seconds. Sent data is charged to the sender
until it is acknowledged; received data takes window until it is read.
An urgent byte travels in the stream and is kept beside it. A second one makes the first an
ordinary byte, or drops it if it is the next byte to read.

Rule: data and room wake with the broad socket keys, FIN and RST through state_change, without a
key. All that receives a segment runs in softirq context.

Left out: Nagle, TIME_WAIT (a port is free once both ends are closed), SYN cookies. Within a machine
nothing is lost, so there are no timers but the SYN's; tcp_transfer.py has those between machines.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from ..hrtimer import HrTimer
from ..uapi import (
    NSEC_PER_SEC,
    TCP_KEEPIDLE,
)
from .inet import InetSock, lookup_listeners
from .socket import (
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
    TCP_SYN_SENT,
    Net,
    ProtoOps,
)

if TYPE_CHECKING:
    from .tcp_transfer import Transfer

MSS = 32_741
TCP_SNDBUF = 87_040
TCP_RCVBUF = 131_072
SYN_RETRIES = 6
SENDING = (TCP_ESTABLISHED, TCP_CLOSE_WAIT)
# socket->state: decides what connect(2) does next; it is not the state of the connection.
SS_UNCONNECTED = 1
SS_CONNECTING = 2
SS_CONNECTED = 3
SS_DISCONNECTING = 4
NO_QUEUE: deque[Any] = deque()


class TcpSock(InetSock):
    """struct tcp_sock."""

    table = "tcp"
    default_options: ClassVar[dict[tuple[int, int], Any]] = {
        (socket.IPPROTO_TCP, TCP_KEEPIDLE): 7200,
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 75,
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 9,
    }

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
        # The connection's sequence numbers and timers, if the peer is on another machine.
        self.transfer: Transfer | None = None

    # Sending

    def send_to_peer(self, action: str, *args: Any) -> None:
        """Put a segment on the wire; `action` is the peer's method that receives it."""
        if self.transfer is not None:
            self.transfer.send(action, *args)
            return
        peer = self.peer

        def arrive() -> None:
            # A socket that was disconnected meanwhile receives nothing of its old connection.
            if peer is not None and peer.peer is self:
                getattr(peer, action)(*args)

        if peer is not None:
            self.net.deliver(arrive)

    def push(self) -> None:
        """Send the data that the peer's window allows, then the FIN."""
        if self.transfer is not None:
            self.transfer.push()
            return
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

    def at_mark(self) -> bool:
        return self.urgent_at == 0

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
        if self.transfer is not None:
            self.transfer.finish()
        self._part()
        self.sk_shutdown = SHUTDOWN_MASK
        self.write_queue.clear()
        self.fin_queued = False
        if self.dead:
            self.unhash()
        else:
            self.put_port()
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
        if self.transfer is not None:
            self.transfer.send_syn()
        else:
            self.net.deliver(self._rcv_syn)

    def cancel_syn_timer(self) -> None:
        if self.syn_timer is not None:
            self.net.sched.clock.cancel(self.syn_timer)
            self.syn_timer = None

    def _syn_timeout(self) -> None:
        if not self.net.up:
            return
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
        if (self.peer_host, self.peer_port) == (self.host, self.port):
            # A simultaneous open with itself: its own SYN is the one that it waits for.
            self.net.deliver(lambda: self._rcv_synack(self))
            return
        listeners = lookup_listeners(self.net, TcpSock, self.family, self.peer_host, self.peer_port)
        if not listeners:
            self.net.deliver(self.rcv_reset)
            return
        listener = listeners[0]
        if len(listener.accept_queue) > listener.backlog:
            return
        child = listener.make_child(self)
        child.advertised = child.rcvbuf
        child.window = self.rcvbuf
        child.peer = self
        child.state = TCP_ESTABLISHED
        listener.accept_queue.append(child)
        listener.data_ready()
        self.net.deliver(lambda: self._rcv_synack(child))

    def make_child(self, client: TcpSock) -> TcpSock:
        """tcp_create_openreq_child: a listener's new socket for the connection of `client`."""
        child = TcpSock(self.net, self.ops, self.family, self.type, self.protocol)
        child.host, child.port = client.peer_host, client.peer_port
        child.peer_host, child.peer_port = client.host, client.port
        child.host_locked = self.host_locked
        child.sk_shutdown = self.sk_shutdown
        child.options = dict(self.options)
        child.sndbuf, child.rcvbuf = self.sndbuf, self.rcvbuf
        child.ss_state = SS_CONNECTED
        child.hash()
        return child

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
        if child.sk_shutdown & SEND_SHUTDOWN and child.state == TCP_ESTABLISHED:
            # It, or the listener that it comes from, was shut down before: the FIN goes out now.
            child.state = TCP_FIN_WAIT1
            child.send_fin()
