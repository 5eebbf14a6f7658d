"""Machines on one clock, driven from the test: their sockets without programs around them."""

import errno
import socket
from typing import Any

from aiopoll.kernel.net.socket import TCP_LISTEN, Net, Sock
from aiopoll.kernel.net.tcp import tcp_create, tcp_init, tcp_ops
from aiopoll.kernel.net.tcp_input import TcpSock
from aiopoll.kernel.net.udp import UdpSock, udp_create, udp_init, udp_ops
from aiopoll.kernel.sched import Choice, Scheduler
from aiopoll.kernel.signal import Signals
from aiopoll.kernel.uapi import NSEC_PER_SEC
from aiopoll.sim.links import Network
from aiopoll.sim.tape import Tape, tape_of

STREAM = socket.SOCK_STREAM
PORT = 80


class Machines:
    """A network whose clock moves when the test says so."""

    def __init__(self, tape: Tape | None = None, *, latency: Any = 0.010) -> None:
        self.sched = Scheduler(Choice(), 0)
        self.tape = tape if tape is not None else tape_of(0, "uniform")
        self.packets: list[dict[str, Any]] = []
        self.network = Network(self.sched, self.tape, self._observe)
        self.latency = latency
        self.names: list[str] = []
        self.listeners: dict[Net, TcpSock] = {}

    def _observe(self, kind: str, **data: Any) -> None:
        assert kind == "packet"
        self.packets.append({"at_ns": self.sched.clock.now_ns, **data})

    def host(self, name: str, *addresses: str) -> Net:
        """Boot a machine; one of the same name has the address of the last one."""
        if name not in self.names:
            for other in self.names:
                self.network.link(name, other, latency=self.latency)
            self.names.append(name)
        number = self.names.index(name) + 1
        own = addresses or (f"10.0.0.{number}",)
        net = Net(self.sched, Signals(self.sched), self.network, own)
        for init in (tcp_init, udp_init):
            init(net)
        self.network.attach(name, own[0], net)
        return net

    @property
    def now(self) -> float:
        return self.sched.clock.now_ns / NSEC_PER_SEC

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass."""
        clock = self.sched.clock
        until_ns = clock.now_ns + round(seconds * NSEC_PER_SEC)
        self.sched.run_pending()
        while (expiry_ns := clock.next_expiry_ns()) is not None and expiry_ns <= until_ns:
            self.sched.fire_timer()
            self.sched.run_pending()
        clock.now_ns = until_ns

    def run_idle(self) -> None:
        """Let time pass until no timer is armed."""
        self.sched.run_pending()
        while self.sched.fire_timer():
            self.sched.run_pending()

    # TCP

    def listen(self, net: Net, address: str = "0.0.0.0", backlog: int = 100) -> TcpSock:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sk = tcp_create(net, family, STREAM, 0)
        assert isinstance(sk, TcpSock)
        bind(sk, (address, PORT))
        assert tcp_ops.listen is not None
        tcp_ops.listen(sk, backlog)
        assert sk.state == TCP_LISTEN
        return sk

    def connect(self, net: Net, address: str, port: int = PORT) -> TcpSock:
        """Begin to connect."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sk = tcp_create(net, family, STREAM, 0)
        assert isinstance(sk, TcpSock)
        assert tcp_ops.connect is not None
        try:
            tcp_ops.connect(sk, (address, port), True)
        except BlockingIOError:
            pass
        return sk

    def pair(self, one: Net, two: Net) -> tuple[TcpSock, TcpSock]:
        """Return the two ends of a connection from `one` to `two`."""
        listener = self.listeners.get(two) or self.listen(two)
        self.listeners[two] = listener
        client = self.connect(one, two.addresses[0])
        self.run(1)
        while not listener.accept_queue and self.now < 100:
            self.run(1)
        server = accept(listener)
        self.packets.clear()
        return client, server

    # UDP

    def datagrams(self, net: Net, port: int = PORT) -> UdpSock:
        sk = udp_create(net, socket.AF_INET, socket.SOCK_DGRAM, 0)
        assert isinstance(sk, UdpSock)
        bind(sk, ("0.0.0.0", port))
        return sk


def bind(sk: Sock, address: tuple[str, int]) -> None:
    assert sk.ops.bind is not None
    sk.ops.bind(sk, address)


def accept(listener: TcpSock) -> TcpSock:
    """Raises BlockingIOError if none waits."""
    assert tcp_ops.accept is not None
    child = tcp_ops.accept(listener, True)
    assert isinstance(child, TcpSock)
    return child


def close(sk: Sock) -> None:
    assert sk.ops.release is not None
    sk.ops.release(sk)


def send(sk: TcpSock, data: bytes) -> int:
    assert tcp_ops.sendmsg is not None
    return tcp_ops.sendmsg(sk, data, socket.MSG_NOSIGNAL, None, True)


def receive(sk: Sock, count: int = 1 << 20) -> bytes:
    """Return what is there, b"" after the end. BlockingIOError, or the connection's error."""
    assert sk.ops.recvmsg is not None
    return sk.ops.recvmsg(sk, count, 0, True, None)[0]


def send_to(sk: UdpSock, data: bytes, address: str, port: int = PORT) -> None:
    assert udp_ops.sendmsg is not None
    udp_ops.sendmsg(sk, data, 0, (address, port), True)


def all_datagrams(sk: UdpSock) -> list[bytes]:
    found: list[bytes] = []
    while sk.queue:
        found.append(receive(sk))
    return found


def error_of(sk: Sock) -> str:
    """Take the pending error of a socket: its name, or ""."""
    code, sk.sk_err = sk.sk_err, 0
    return errno.errorcode.get(code, "")
