"""net/ipv4/tcp_timer.c: when a connection between machines stops waiting.

Facts: the retransmission timeout is the smoothed round trip plus at least 200 ms. It doubles each
time, up to 120 s. With two segments or more in flight the last one is sent again first, after two
round trips: its ACK shows what is missing. A sender gives up, with ETIMEDOUT, when nothing was
acknowledged for 924.6 s (tcp_retries2) or TCP_USER_TIMEOUT; an orphan after eight retries. One that
sends nothing notices nothing, unless SO_KEEPALIVE probes the peer: after TCP_KEEPIDLE of silence,
then every TCP_KEEPINTVL, TCP_KEEPCNT times. An ACK waits up to 40 ms for data to go with.

Rule: a deadline that moves does not move its timer, which is armed again when it fires too early.
So an ACK costs an assignment. The timers of a machine without power do nothing.
Left out: the adaptive delay of ACKs, slack, tcp_retries1 and what it asks of routes.
"""

from __future__ import annotations

import enum
import errno
import socket
from collections import deque

from ..hrtimer import Clock, HrTimer
from ..uapi import NSEC_PER_SEC, TCP_KEEPIDLE, TCP_USER_TIMEOUT
from .socket import TCP_FIN_WAIT2, TCP_SYN_RECV, Net
from .tcp_input import TcpSock
from .wire import Flow

NSEC_PER_MSEC = 1_000_000
RTO_INITIAL_NS = NSEC_PER_SEC
RTO_MIN_NS = 200 * NSEC_PER_MSEC
RTO_MAX_NS = 120 * NSEC_PER_SEC
# The sum of fifteen timeouts that start with the shortest one.
RETRIES2_NS = 924_600 * NSEC_PER_MSEC
ORPHAN_RETRIES = 8
FIN_TIMEOUT_NS = 60 * NSEC_PER_SEC
DELAYED_ACK_NS = 40 * NSEC_PER_MSEC
TAIL_PROBE_MIN_NS = 2 * NSEC_PER_MSEC
# Segments that arrive before an ACK is sent at once.
ACK_EVERY = 2
KEEPALIVE_LIMITS = {
    TCP_KEEPIDLE: 32_767,
    socket.TCP_KEEPINTVL: 32_767,
    socket.TCP_KEEPCNT: 127,
}


class Fate(enum.Enum):
    """What the sender knows of a segment that is not acknowledged."""

    IN_FLIGHT = enum.auto()
    RECEIVED = enum.auto()
    LOST = enum.auto()


class Segment:
    """Bytes [seq, end) of a stream. A FIN has a number and no data."""

    __slots__ = ("data", "end", "fate", "fin", "sent_ns", "seq", "serial", "times", "urgent")

    def __init__(self, seq: int, data: bytes, urgent: bool, fin: bool) -> None:
        self.seq: int = seq
        self.end: int = seq + len(data) + fin
        self.data: bytes = data
        self.urgent: bool = urgent
        self.fin: bool = fin
        self.fate: Fate = Fate.IN_FLIGHT
        self.sent_ns: int = 0
        # The number of the last transmission, of all that this end makes.
        self.serial: int = 0
        self.times: int = 0


class TimedFlow(Flow):
    """The timers of one end; Transfer adds what they act on."""

    def __init__(self, sk: TcpSock) -> None:
        super().__init__()
        self.sk = sk
        self.net: Net = sk.net
        self.clock: Clock = sk.net.sched.clock
        self.unacked: deque[Segment] = deque()
        self.srtt_ns: int = 0
        self.rttvar_ns: int = 0
        self.rto_ns: int = RTO_INITIAL_NS
        self.backoff: int = 0
        self.tail_probed: bool = False
        # Since when nothing was acknowledged, and when to stop waiting for it.
        self.stalled_ns: int = 0
        self.deadline_ns: int | None = None
        self.ack_due_ns: int | None = None
        self.heard_ns: int = 0
        self.probes: int = 0
        self.timer: HrTimer = HrTimer(self._timeout)
        self.ack_timer: HrTimer = HrTimer(self._ack_timeout)
        self.keep_timer: HrTimer = HrTimer(self._keep_timeout)

    def emit(self, kind: str, segment: Segment | None = None) -> None:
        """Send one packet, which acknowledges what has arrived."""
        raise NotImplementedError

    def send_synack(self) -> None:
        """Send a SYN-ACK, or give the connection up after the last one."""
        raise NotImplementedError

    def retransmit(self, segment: Segment) -> None:
        """Send `segment` again."""
        raise NotImplementedError

    def lose_flight(self) -> None:
        """Take all that is in flight for lost, and send the first of it again."""
        raise NotImplementedError

    def patience_ns(self) -> int:
        """Return how long to wait for an ACK: shorter while there is a tail to probe."""
        if len(self.unacked) >= ACK_EVERY and not self.tail_probed and self.srtt_ns:
            return min(self.rto_ns, 2 * self.srtt_ns + TAIL_PROBE_MIN_NS)
        return self.rto_ns

    def sample(self, rtt_ns: int) -> None:
        """tcp_rtt_estimator, with Linux's floor under the variance."""
        if not self.srtt_ns:
            self.srtt_ns = max(rtt_ns, 1)
            self.rttvar_ns = rtt_ns // 2
        else:
            self.rttvar_ns += (abs(rtt_ns - self.srtt_ns) - self.rttvar_ns) // 4
            self.srtt_ns += (rtt_ns - self.srtt_ns) // 8
        self.rto_ns = min(self.srtt_ns + max(4 * self.rttvar_ns, RTO_MIN_NS), RTO_MAX_NS)

    def arm(self, deadline_ns: int) -> None:
        self.deadline_ns = deadline_ns
        expires_ns = self.timer.expires_ns
        if expires_ns is None or expires_ns > deadline_ns:
            self.clock.start(self.timer, deadline_ns)

    def _timeout(self) -> None:
        sk, now_ns = self.sk, self.clock.now_ns
        if self.deadline_ns is None or not self.net.up:
            return
        if now_ns < self.deadline_ns:
            self.clock.start(self.timer, self.deadline_ns)
            return
        self.deadline_ns = None
        if sk.state == TCP_SYN_RECV:
            self.send_synack()
            return
        if not self.unacked and not sk.write_queue:
            return
        user_timeout_ns = self._user_timeout_ns()
        limit_ns = user_timeout_ns or RETRIES2_NS
        if now_ns - self.stalled_ns >= limit_ns or (sk.dead and self.backoff >= ORPHAN_RETRIES):
            self._give_up()
            return
        if not self.unacked:
            self.emit("probe")
            self.backoff += 1
        elif len(self.unacked) >= ACK_EVERY and not self.tail_probed and not self.backoff:
            self.tail_probed = True
            if self.unacked[-1].fate is Fate.IN_FLIGHT:
                self.retransmit(self.unacked[-1])
        else:
            self.lose_flight()
            self.backoff += 1
        wait_ns = min(self.rto_ns << self.backoff, RTO_MAX_NS)
        if user_timeout_ns:
            wait_ns = min(wait_ns, max(self.stalled_ns + user_timeout_ns - now_ns, NSEC_PER_MSEC))
        self.arm(now_ns + wait_ns)

    def _give_up(self) -> None:
        """tcp_write_err: the peer is out of reach."""
        sk = self.sk
        sk.sk_err = errno.ETIMEDOUT
        sk.done()
        sk.error_report()

    def _ack_timeout(self) -> None:
        if self.ack_due_ns is None or not self.net.up:
            return
        if self.clock.now_ns < self.ack_due_ns:
            self.clock.start(self.ack_timer, self.ack_due_ns)
        else:
            self.emit("ACK")

    def _option(self, level: int, option: int) -> int:
        sk = self.sk
        return int(sk.options.get((level, option), sk.default_options.get((level, option), 0)))

    def _user_timeout_ns(self) -> int:
        return self._option(socket.IPPROTO_TCP, TCP_USER_TIMEOUT) * NSEC_PER_MSEC

    def arm_keepalive(self) -> None:
        """Begin to count idle time, if SO_KEEPALIVE is set."""
        if self._option(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            idle_ns = self._option(socket.IPPROTO_TCP, TCP_KEEPIDLE) * NSEC_PER_SEC
            self.clock.start(self.keep_timer, max(self.heard_ns + idle_ns, self.clock.now_ns))

    def was_orphaned(self) -> None:
        """No descriptor is left: after its FIN, the peer's is awaited for a minute only."""
        if self.sk.state == TCP_FIN_WAIT2:
            self.clock.start(self.keep_timer, self.clock.now_ns + FIN_TIMEOUT_NS)

    def _keep_timeout(self) -> None:
        sk, now_ns = self.sk, self.clock.now_ns
        if not self.net.up:
            return
        if sk.dead and sk.state == TCP_FIN_WAIT2:
            sk.done()
            return
        if not self._option(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            return
        wait_ns = self._option(socket.IPPROTO_TCP, TCP_KEEPIDLE) * NSEC_PER_SEC
        idle_ns = now_ns - self.heard_ns
        if self.unacked or sk.write_queue:
            # The retransmissions will find out.
            pass
        elif idle_ns < wait_ns:
            wait_ns -= idle_ns
        else:
            user_timeout_ns = self._user_timeout_ns()
            probes = self._option(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
            if (
                self.probes and idle_ns >= user_timeout_ns
                if user_timeout_ns
                else self.probes >= probes
            ):
                self.emit("RST")
                self._give_up()
                return
            self.emit("probe")
            self.probes += 1
            wait_ns = self._option(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) * NSEC_PER_SEC
        self.clock.start(self.keep_timer, now_ns + wait_ns)

    def disarm(self) -> None:
        """Stop all timers."""
        for timer in (self.timer, self.ack_timer, self.keep_timer):
            self.clock.cancel(timer)
        self.deadline_ns = self.ack_due_ns = None

    def release_timers(self) -> None:
        """Disarm for good: the timers refer to this object, which could not be freed at once."""
        self.disarm()
        self.timer = self.ack_timer = self.keep_timer = HrTimer(int)
