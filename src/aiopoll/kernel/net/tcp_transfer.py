"""net/ipv4/{tcp_input,tcp_output,tcp_recovery,tcp_cong}.c: streams between machines.

Facts: a wire loses packets, so bytes have numbers, and what is not acknowledged is sent again: at
once when something that was sent later has arrived, else by a timer (tcp_timer.py). A machine that
was started again knows no earlier connection, and resets it at its next packet.
A SYN is sent again after 1, 2, 4, … 64 s, a SYN-ACK five times. The congestion window starts at ten
segments and grows by what is acknowledged, from ssthresh on by half a segment per round trip; a
loss takes it to 0.7, a timeout to one segment.

Rule: a packet carries up to 45 segments, as with segmentation offload, but one where it may be
lost. It reaches the other end as an object: `arrive` looks first if the machine is the same.

Left out: Nagle, CUBIC's curve (it matters after seconds) and HyStart, reordering within a flow,
ECN, PAWS, TIME_WAIT's minute (a closed end acknowledges a FIN again as long as the other end needs
it), challenge ACKs (a SYN for a forgotten connection resets that one, and its repetition connects).
"""

from __future__ import annotations

import socket
from typing import Any

from ..uapi import NSEC_PER_SEC
from .inet import lookup_listeners
from .socket import (
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    Net,
)
from .tcp_input import TcpSock
from .tcp_timer import ACK_EVERY, DELAYED_ACK_NS, Fate, Segment, TimedFlow
from .wire import TCP_HEADERS, WIRE_MSS, Packet

INITIAL_WINDOW = 10 * WIRE_MSS
RECEIVE_WINDOW = 65_536
RMEM_MAX = 6 << 20
WMEM_MAX = 4 << 20
SYNACK_RETRIES = 5


class Header:
    """What a packet carries besides data.

    `ack` and `edge` are the next byte that is awaited and the right edge of the window. `echo` is
    the serial number of the last segment that arrived, `sacked` where those beyond a gap begin.
    """

    __slots__ = ("ack", "echo", "edge", "sacked", "segment", "serial")

    def __init__(self, transfer: Transfer, segment: Segment | None) -> None:
        self.segment: Segment | None = segment
        self.serial: int = segment.serial if segment is not None else 0
        self.ack: int = transfer.rcv_nxt
        self.edge: int = transfer.edge
        self.echo: int = transfer.echo
        self.sacked: tuple[int, ...] = tuple(transfer.early) if transfer.early else ()


class Transfer(TimedFlow):
    """One end of a connection between machines: what its socket has beyond a local one."""

    # Of TimedFlow: its methods here write them.
    backoff: int
    stalled_ns: int
    heard_ns: int
    deadline_ns: int | None

    def __init__(self, sk: TcpSock) -> None:
        super().__init__(sk)
        # The socket gives its name up before the last packets are sent.
        self.name: tuple[str, int, str, int] = (sk.host, sk.port, sk.peer_host, sk.peer_port)
        self.peer: Transfer | None = None
        # Of one that a SYN made: where it is accepted.
        self.listener: TcpSock | None = None
        self.syn_times: int = 0
        self.syn_sent_ns: int = 0
        # Sending.
        self.snd_nxt: int = 0
        self.serial: int = 0
        self.in_flight: int = 0
        self.nr_lost: int = 0
        self.peer_edge: int = 0
        self.cwnd: int = INITIAL_WINDOW
        self.ssthresh: int = 1 << 40
        self.recover: int = 0
        # Receiving.
        self.rcv_nxt: int = 0
        self.echo: int = 0
        self.early: dict[int, Segment] = {}
        fixed = (socket.SOL_SOCKET, socket.SO_RCVBUF) in sk.options
        self.window_grows: bool = not fixed
        self.window_max: int = sk.rcvbuf // 2 if fixed else RECEIVE_WINDOW
        self.edge: int = self.window_max
        self.copied: int = 0
        self.copied_since_ns: int = 0
        self.unreported: int = 0

    def emit(self, kind: str, segment: Segment | None = None) -> None:
        """Send one packet, which acknowledges what has arrived."""
        peer = self.peer
        if peer is None and kind != "SYN":
            return
        self.unreported = 0
        self.ack_due_ns = None
        self.edge = self._window_edge()
        size = TCP_HEADERS
        if segment is not None:
            packets = -(-len(segment.data) // WIRE_MSS) or 1
            size = len(segment.data) + packets * TCP_HEADERS
        arrive = self._syn_arrives if peer is None else peer.arrive
        header = Header(self, segment)
        self.net.wire.send(
            Packet(self.net, self.name[0], self.name[2], "tcp", kind, size, arrive, header, self)
        )

    # Opening

    def send_syn(self) -> None:
        self.syn_sent_ns = self.clock.now_ns
        self.emit("SYN")

    def _syn_arrives(self, net: Net, packet: Packet) -> None:
        """The SYN of this end arrives at `net`: at a listener or nowhere."""
        client = self.sk
        if client.transfer is not self or client.state != TCP_SYN_SENT:
            return
        name = (*self.name[2:], *self.name[:2])
        known: Transfer | None = net.connections.get(name)
        if known is not None:
            if known.peer is not self:
                known.sk.rcv_reset()
            elif known.sk.state == TCP_SYN_RECV:
                known.emit("SYN-ACK")
            return
        listeners = lookup_listeners(net, TcpSock, client.family, name[0], name[1])
        if not listeners:
            reset(net, packet)
            return
        listener = listeners[0]
        if len(listener.accept_queue) > listener.backlog:
            return
        child = listener.make_child(client)
        child.state = TCP_SYN_RECV
        child.transfer = transfer = Transfer(child)
        transfer.peer = self
        transfer.listener = listener
        child.window = transfer.peer_edge = packet.body.edge
        net.connections[name] = transfer
        transfer.send_synack()

    def send_synack(self) -> None:
        if self.syn_times > SYNACK_RETRIES:
            self._drop()
            return
        self.syn_sent_ns = self.clock.now_ns
        self.arm(self.syn_sent_ns + (NSEC_PER_SEC << self.syn_times))
        self.syn_times += 1
        self.emit("SYN-ACK")

    def _synack_arrives(self, packet: Packet) -> None:
        sk = self.sk
        if sk.state == TCP_CLOSE:
            reset(self.net, packet)
            return
        if sk.state != TCP_SYN_SENT:
            # The ACK for it was lost.
            self.emit("ACK")
            return
        sk.cancel_syn_timer()
        assert isinstance(packet.flow, Transfer)
        self.peer = packet.flow
        sk.window = self.peer_edge = packet.body.edge
        if sk.syn_sent_times == 1:
            self.sample(self.clock.now_ns - self.syn_sent_ns)
        sk.state = TCP_ESTABLISHED
        self.arm_keepalive()
        self.net.wire.opened(self)
        self.emit("ACK")
        sk.state_change()
        sk.write_space()
        sk.push()

    def _accepted(self) -> bool:
        """Something comes after the SYN-ACK: the connection is there, if its listener has room."""
        sk, listener = self.sk, self.listener
        assert listener is not None
        if listener.state != TCP_LISTEN:
            self.emit("RST")
            self._drop()
            return False
        if len(listener.accept_queue) > listener.backlog:
            return False
        if self.syn_times == 1:
            self.sample(self.clock.now_ns - self.syn_sent_ns)
        self.deadline_ns = self.listener = None
        sk.state = TCP_ESTABLISHED
        self.arm_keepalive()
        listener.accept_queue.append(sk)
        listener.data_ready()
        return True

    def _drop(self) -> None:
        """End a connection that no program has seen."""
        self.sk.dead = True
        self.sk.done()

    # Sending

    def send(self, action: str, *args: Any) -> None:
        """Take a segment of the socket's that is no data; `action` as in TcpSock.send_to_peer."""
        if action == "rcv_ack":
            self.unreported += 1
        elif action == "rcv_fin_ack":
            self.emit("ACK")
        elif action == "rcv_reset":
            self.emit("RST")
        else:
            raise AssertionError(f"{action} is sent by push()")

    def push(self) -> None:
        """Send again what was lost, then what both windows allow, then the FIN."""
        sk = self.sk
        if sk.state in (TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE):
            return
        queue = sk.write_queue
        if self.nr_lost:
            self._retransmit_lost()
        elif not queue and not sk.fin_queued:
            return
        packet_max = WIRE_MSS
        if len(queue) > 1 or (queue and len(queue[0][0]) > WIRE_MSS):
            packet_max = self.net.wire.packet_max(self.name[0], self.name[2])
        while queue and sk.window > 0 and self.in_flight < self.cwnd:
            room = min(sk.window, self.cwnd - self.in_flight, packet_max)
            data, urgent = queue.popleft()
            if len(data) < room and queue and not urgent:
                parts = [data]
                size = len(data)
                while queue and not urgent and size < room:
                    data, urgent = queue.popleft()
                    parts.append(data)
                    size += len(data)
                data = b"".join(parts)
            if len(data) > room:
                if room < WIRE_MSS and self.in_flight:
                    # No small segment for what the window will soon allow in large ones.
                    queue.appendleft((data, urgent))
                    break
                queue.appendleft((data[room:], urgent))
                data, urgent = data[:room], False
            sk.window -= len(data)
            self._send_segment(Segment(self.snd_nxt, data, urgent, False))
        if sk.fin_queued and not queue:
            sk.fin_queued = False
            self._send_segment(Segment(self.snd_nxt, b"", False, True))
        if queue and not self.unacked and self.deadline_ns is None:
            # The window is shut: probe it, for the ACK that opens it may be lost.
            self.stalled_ns = self.clock.now_ns
            self.arm(self.clock.now_ns + self.rto_ns)

    def _send_segment(self, segment: Segment) -> None:
        self.snd_nxt = segment.end
        if not self.unacked:
            self.stalled_ns = self.clock.now_ns
            self.deadline_ns = None
        self.unacked.append(segment)
        self.retransmit(segment)
        if self.deadline_ns is None or len(self.unacked) == ACK_EVERY:
            self.arm(self.clock.now_ns + self.patience_ns())

    def retransmit(self, segment: Segment) -> None:
        self.serial += 1
        segment.serial = self.serial
        segment.sent_ns = self.clock.now_ns
        segment.times += 1
        if segment.fate is Fate.LOST:
            self.nr_lost -= 1
        if segment.fate is Fate.LOST or segment.times == 1:
            self.in_flight += len(segment.data)
        segment.fate = Fate.IN_FLIGHT
        self.emit("FIN" if segment.fin else "data", segment)

    def _retransmit_lost(self) -> None:
        for segment in self.unacked:
            if not self.nr_lost or (self.in_flight and self.in_flight >= self.cwnd):
                break
            if segment.fate is Fate.LOST:
                self.retransmit(segment)

    # Receiving: all of these run in interrupt context.

    def arrive(self, net: Net, packet: Packet) -> None:
        """A packet of the peer's arrives at the machine that has this end's address now."""
        sk = self.sk
        if net is not self.net:
            reset(net, packet)
            return
        if sk.transfer is not self:
            if self.peer is not None or packet.kind == "SYN-ACK":
                reset(net, packet)
            return
        self.heard_ns = self.clock.now_ns
        self.probes = 0
        if packet.kind == "RST":
            self._reset_arrives(net, packet)
            return
        if packet.kind == "SYN-ACK":
            self._synack_arrives(packet)
            return
        if sk.state == TCP_SYN_RECV and not self._accepted():
            return
        segment: Segment | None = packet.body.segment
        if sk.state == TCP_CLOSE:
            if segment is None:
                return
            if segment.end <= self.rcv_nxt:
                self.emit("ACK")
            else:
                reset(net, packet)
            return
        self._ack_arrives(packet.body)
        if segment is not None:
            self._segment_arrives(segment, packet.body.serial)
        elif packet.kind == "probe":
            self.emit("ACK")

    def _ack_arrives(self, header: Header) -> None:
        sk = self.sk
        now_ns = self.clock.now_ns
        window = max(header.edge - self.peer_edge, 0)
        self.peer_edge += window
        unacked = self.unacked
        acked = 0
        newest: Segment | None = None
        timed: Segment | None = None
        while unacked and unacked[0].end <= header.ack:
            newest = unacked.popleft()
            if newest.times == 1 and newest.fate is Fate.IN_FLIGHT:
                timed = newest
            self._leave_flight(newest)
            acked += len(newest.data)
        if newest is not None:
            if timed is not None:
                # Not one that waited behind a gap, nor one that was sent twice.
                self.sample(now_ns - timed.sent_ns)
            self.backoff = 0
            self.tail_probed = False
            self.stalled_ns = now_ns
            self._grow(acked)
            self.deadline_ns = None
        if unacked:
            if header.sacked or unacked[0].serial < header.echo:
                self._find_losses(header)
            if self.deadline_ns is None:
                self.arm(now_ns + self.patience_ns())
        if newest is None and not window:
            if self.nr_lost:
                self.push()
            elif not unacked and self.backoff:
                # The window is still shut, and the peer is there.
                self.stalled_ns = now_ns
            return
        if window and not unacked:
            self.backoff = 0
            self.deadline_ns = None
        sk.rcv_ack(acked, window)
        if newest is not None and newest.fin:
            sk.rcv_fin_ack()
            if sk.dead:
                self.was_orphaned()

    def _find_losses(self, header: Header) -> None:
        """What was sent before something that has arrived, and has not arrived itself, is lost."""
        lost = False
        for segment in self.unacked:
            if segment.fate is Fate.RECEIVED:
                continue
            if segment.seq in header.sacked:
                if segment.times == 1 and segment.serial == header.echo:
                    self.sample(self.clock.now_ns - segment.sent_ns)
                self._leave_flight(segment)
                segment.fate = Fate.RECEIVED
            elif segment.fate is Fate.IN_FLIGHT and segment.serial < header.echo:
                self._lose(segment)
                lost = True
        if lost and self.unacked[0].seq >= self.recover:
            self.ssthresh = max(self.cwnd * 7 // 10, 2 * WIRE_MSS)
            self.cwnd = self.ssthresh
            self.recover = self.snd_nxt

    def lose_flight(self) -> None:
        """Take all that is in flight for lost, and send the first of it again."""
        for segment in self.unacked:
            if segment.fate is Fate.IN_FLIGHT:
                self._lose(segment)
        if not self.backoff:
            self.ssthresh = max(self.cwnd * 7 // 10, 2 * WIRE_MSS)
        self.cwnd = WIRE_MSS
        self.recover = self.snd_nxt
        self._retransmit_lost()

    def _lose(self, segment: Segment) -> None:
        self._leave_flight(segment)
        segment.fate = Fate.LOST
        self.nr_lost += 1

    def _leave_flight(self, segment: Segment) -> None:
        if segment.fate is Fate.IN_FLIGHT:
            self.in_flight -= len(segment.data)
        elif segment.fate is Fate.LOST:
            self.nr_lost -= 1

    def _grow(self, acked: int) -> None:
        """Open the congestion window by what was acknowledged, and the buffer with it."""
        if self.cwnd < self.ssthresh:
            self.cwnd += acked
        else:
            # CUBIC, where it is as friendly as Reno: 3 (1 - 0.7) / (1 + 0.7) of a segment.
            self.cwnd += WIRE_MSS * acked * 53 // (100 * self.cwnd)
        sk = self.sk
        if 3 * self.cwnd > sk.sndbuf and (socket.SOL_SOCKET, socket.SO_SNDBUF) not in sk.options:
            sk.sndbuf = max(sk.sndbuf, min(3 * self.cwnd, WMEM_MAX))

    def _segment_arrives(self, segment: Segment, serial: int) -> None:
        if serial > self.echo:
            self.echo = serial
        if segment.seq != self.rcv_nxt:
            if segment.seq > self.rcv_nxt:
                self.early[segment.seq] = segment
            self.emit("ACK")
            return
        filled = bool(self.early)
        self._take(segment)
        while self.rcv_nxt in self.early:
            self._take(self.early.pop(self.rcv_nxt))
        if self.unreported >= ACK_EVERY or len(segment.data) >= ACK_EVERY * WIRE_MSS or filled:
            self.emit("ACK")
        elif self.unreported and self.ack_due_ns is None:
            self.ack_due_ns = self.clock.now_ns + DELAYED_ACK_NS
            if not self.ack_timer.active:
                self.clock.start(self.ack_timer, self.ack_due_ns)

    def _take(self, segment: Segment) -> None:
        self.rcv_nxt = segment.end
        if self.sk.state == TCP_CLOSE:
            return
        if segment.data:
            self.sk.rcv_data(segment.data, segment.urgent)
        if segment.fin:
            self.sk.rcv_fin()

    def _window_edge(self) -> int:
        return max(self.edge, self.rcv_nxt + self.window_max - self.sk.rmem)

    def was_read(self, count: int) -> None:
        """The program has read: the window may open, and may grow if it is read fast."""
        now_ns = self.clock.now_ns
        self.copied += count
        if self.window_grows and now_ns - self.copied_since_ns >= self.srtt_ns:
            self.window_max = max(self.window_max, min(4 * self.copied, RMEM_MAX))
            self.copied, self.copied_since_ns = 0, now_ns
        left = self.edge - self.rcv_nxt
        if 2 * left > self.window_max:
            return
        opened = self._window_edge() - self.rcv_nxt
        enough = max(left, min(self.window_max // 2, 2 * WIRE_MSS))
        if opened - left >= enough and self.sk.state != TCP_CLOSE:
            self.emit("ACK")

    def _reset_arrives(self, net: Net, packet: Packet) -> None:
        if net is self.net and self.sk.transfer is self:
            if self.sk.state == TCP_SYN_RECV:
                self._drop()
            else:
                self.sk.rcv_reset()

    # The end

    def abort(self) -> None:
        """Reset both ends, as a middlebox that has forgotten the connection."""
        for end in (self, self.peer):
            if end is not None and end.net.up and end.sk.transfer is end:
                end.sk.rcv_reset()

    def stop(self) -> None:
        """Disarm the timers, and leave the tables."""
        self.disarm()
        if self.net.connections.get(self.name) is self:
            del self.net.connections[self.name]
        self.net.wire.closed(self)

    def finish(self) -> None:
        """The socket is closed. Once its peer is too, nothing keeps the two alive."""
        self.stop()
        self.unacked.clear()
        self.early.clear()
        self.in_flight = self.nr_lost = 0
        peer = self.peer
        if peer is None:
            self._let_go()
        elif peer.sk.state == TCP_CLOSE:
            peer._let_go()
            self._let_go()

    def _let_go(self) -> None:
        self.peer = None
        self.release_timers()
        if self.sk.transfer is self:
            self.sk.transfer = None


def reset(net: Net, packet: Packet) -> None:
    """Send a RST for a packet of a connection that `net` does not have."""
    flow = packet.flow
    if packet.kind != "RST" and isinstance(flow, Transfer):
        net.wire.send(
            Packet(
                net,
                packet.destination,
                packet.source,
                "tcp",
                "RST",
                TCP_HEADERS,
                flow._reset_arrives,
            )
        )
