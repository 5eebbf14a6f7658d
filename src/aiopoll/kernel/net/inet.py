"""net/ipv4/af_inet.c and inet_hashtables.c: addresses and ports of the in-process network.

Facts: a machine has loopback, 127.0.0.0/8 and ::1, and the addresses that it was given, if any. A
port below the ephemeral range belongs to the socket that binds it first. SO_REUSEADDR shares one
among sockets of which none listens. What has no source address yet gets one by its destination.
Left out: privileged ports, IPv4-mapped addresses, multicast, broadcast, other spellings of an IPv6
address than the one that the machine was given.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import Any, TypeVar

from ..uapi import error
from .socket import TCP_CLOSE, TCP_LISTEN, TCP_SYN_SENT, Address, Net, ProtoOps, Sock, SocketTables

EPHEMERAL_PORTS = range(32_768, 61_000)
ANY = ("0.0.0.0", "::")


class InetSock(Sock):
    """struct inet_sock: a socket with an address and a port."""

    table = ""

    def __init__(self, net: Net, ops: ProtoOps, family: int, kind: int, protocol: int) -> None:
        super().__init__(net, ops, family, kind, protocol)
        self.host = "::" if family == socket.AF_INET6 else "0.0.0.0"
        self.port: int = 0
        self.peer_host = ""
        self.peer_port = 0
        # SOCK_BINDADDR_LOCK and SOCK_BINDPORT_LOCK: whether bind asked for this very one.
        self.host_locked = False
        self.port_locked = False
        # inet_sport: getsockname still shows a port that was given back.
        self.last_port: int = 0

    def address(self, peer: bool) -> Address:
        host, port = self.peer_host, self.peer_port
        if not peer:
            host, port = self.host, self.port or self.last_port
        return (host, port, 0, 0) if self.family == socket.AF_INET6 else (host, port)

    def parse(self, address: Address) -> tuple[str, int]:
        """Return (host, port) of one of the machine's addresses. EAFNOSUPPORT, EADDRNOTAVAIL."""
        host, port = self._parse(address)
        if not self.is_own(host):
            raise error(errno.EADDRNOTAVAIL)
        return host, port

    def parse_destination(self, address: Address) -> tuple[str, int]:
        """Return (host, port) of an address that can be reached. EAFNOSUPPORT, ENETUNREACH."""
        host, port = self._parse(address)
        if not self.is_own(host) and not (self.source_for(host) and self.net.wire.has_route(host)):
            raise error(errno.ENETUNREACH)
        return host, port

    def _parse(self, address: Address) -> tuple[str, int]:
        if not isinstance(address, tuple) or len(address) < 2:
            raise error(errno.EAFNOSUPPORT)
        host, port = str(address[0]), int(address[1])
        if host == "":
            host = ANY[self.family == socket.AF_INET6]
        elif host == "localhost":
            host = self.loopback
        return host, port

    def is_own(self, host: str) -> bool:
        """Return whether `host` is this machine: loopback, any, or an address that it has."""
        return is_local(host, self.family) or host in self.net.addresses

    def source_for(self, host: str) -> str:
        """Return the address that sends to `host`; "" if none of this family can."""
        if is_local(host, self.family):
            return self.loopback
        if host in self.net.addresses:
            return host
        for address in self.net.addresses:
            if (":" in address) == (self.family == socket.AF_INET6):
                return address
        return ""

    @property
    def loopback(self) -> str:
        return "::1" if self.family == socket.AF_INET6 else "127.0.0.1"

    def hash(self) -> None:
        """Enter the socket under its port; into the table of listeners if it listens."""
        key = self.table, self.port
        self.net.bound.setdefault(key, {})[self] = None
        if self.state == TCP_LISTEN:
            self.net.listening.setdefault(key, {})[self] = None

    def unhash(self) -> None:
        """Take the socket out of the tables; its port is free when it was the last one there."""
        self.unhash_listener()
        self._leave(self.net.bound)

    def unhash_listener(self) -> None:
        self._leave(self.net.listening)

    def _leave(self, tables: SocketTables) -> None:
        key = self.table, self.port
        sockets = tables.get(key)
        if sockets is not None and self in sockets:
            del sockets[self]
            if not sockets:
                del tables[key]

    def put_port(self) -> None:
        """inet_put_port: give back a port that bind did not ask for by its number."""
        if not self.port_locked:
            self.unhash()
            self.last_port, self.port = self.port or self.last_port, 0

    def reset_host(self) -> None:
        """inet_reset_saddr: forget an address that bind did not ask for."""
        if not self.host_locked:
            self.host = ANY[self.family == socket.AF_INET6]

    def autobind(self) -> None:
        """inet_autobind: take a free port if there is none."""
        if not self.port:
            self.get_port(self.host, 0)

    def reuse(self) -> bool:
        return bool(self.options.get((socket.SOL_SOCKET, socket.SO_REUSEADDR)))

    def reuse_port(self) -> bool:
        return bool(self.options.get((socket.SOL_SOCKET, socket.SO_REUSEPORT)))

    def conflicts(self, host: str, port: int) -> bool:
        for other in self.net.bound.get((self.table, port), ()):
            if other is self or other.family != self.family:
                continue
            if host != other.host and host not in ANY and other.host not in ANY:
                continue
            if self.reuse_port() and other.reuse_port():
                continue
            if self.reuse() and other.reuse() and other.state != TCP_LISTEN:
                continue
            return True
        return False

    def get_port(self, host: str, port: int) -> None:
        """Take `port`, or a free one for 0. EADDRINUSE."""
        if port == 0:
            for _ in EPHEMERAL_PORTS:
                port = self.net.next_port
                following = port + 1
                self.net.next_port = (
                    following if following in EPHEMERAL_PORTS else EPHEMERAL_PORTS.start
                )
                if not self.net.bound.get((self.table, port)):
                    break
            else:
                raise error(errno.EADDRINUSE)
        elif self.conflicts(host, port):
            raise error(errno.EADDRINUSE)
        self.host, self.port = host, port
        self.hash()


S = TypeVar("S", bound=InetSock)


def is_local(host: str, family: int) -> bool:
    if family == socket.AF_INET6:
        return host in ("::", "::1")
    return host == "0.0.0.0" or (host.startswith("127.") and host.count(".") == 3)


def inet_bind(sk: InetSock, address: Address) -> None:
    host, port = sk.parse(address)
    if sk.port or sk.state != TCP_CLOSE:
        raise error(errno.EINVAL)
    sk.get_port(host, port)
    # Once set they stay, also for a second bind.
    sk.host_locked = sk.host_locked or host not in ANY
    sk.port_locked = sk.port_locked or port != 0


def inet_getname(sk: InetSock, peer: int) -> Address:
    if peer and not sk.peer_port:
        raise error(errno.ENOTCONN)
    if peer == 1 and sk.state in (TCP_CLOSE, TCP_SYN_SENT):
        raise error(errno.ENOTCONN)
    return sk.address(bool(peer))


def lookup(net: Net, kind: type[S], family: int, host: str, port: int) -> list[S]:
    """Return the sockets that may receive data for (host, port), exact addresses first."""
    return _matches(net.bound.get((kind.table, port), ()), family, host)


def lookup_listeners(net: Net, kind: type[S], family: int, host: str, port: int) -> list[S]:
    """Return those that listen there. It looks at no other socket, however many share the port."""
    return _matches(net.listening.get((kind.table, port), ()), family, host)


def _matches(sockets: Iterable[Any], family: int, host: str) -> list[Any]:
    found = [sk for sk in sockets if sk.family == family and (sk.host == host or sk.host in ANY)]
    if len(found) > 1:
        found.sort(key=lambda sk: sk.host in ANY)
    return found
