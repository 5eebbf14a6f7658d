"""net/core/sock.c, net/ipv4/ip_sockglue.c and tcp.c: the options of sockets.

Facts: a level that the protocol does not have is ENOPROTOOPT, and for getsockopt of IPv4
EOPNOTSUPP; Unix sockets have SOL_SOCKET alone. SO_SNDBUF and SO_RCVBUF return twice what was set.
Rule: an option that exists and has no meaning here is stored, and returned. Options that are
structures are bytes.
Left out: which values an option without a meaning takes; TCP_INFO but for its state.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from ..syscall import SyscallTable, syscall
from ..uapi import (
    NSEC_PER_SEC,
    SO_DOMAIN,
    SO_PROTOCOL,
    TCP_INFO,
    TCP_LINGER2,
    TCP_QUICKACK,
    TCP_SYNCNT,
    error,
)
from .socket import TCP_LISTEN, WMEM_DEFAULT, Sock, sock_of

SOL = socket.SOL_SOCKET
SWITCHES = {
    (SOL, socket.SO_REUSEADDR),
    (SOL, socket.SO_REUSEPORT),
    (SOL, socket.SO_KEEPALIVE),
    (SOL, socket.SO_BROADCAST),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY),
}
READ_ONLY = {
    (SOL, socket.SO_TYPE),
    (SOL, SO_DOMAIN),
    (SOL, SO_PROTOCOL),
    (SOL, socket.SO_ERROR),
    (SOL, socket.SO_ACCEPTCONN),
    (SOL, socket.SO_SNDLOWAT),
    (socket.IPPROTO_TCP, TCP_INFO),
}
LINGER_SIZE = 8
TCP_INFO_SIZE = 232
DEFAULTS: dict[tuple[int, int], Any] = {
    (SOL, socket.SO_LINGER): bytes(LINGER_SIZE),
    (SOL, socket.SO_RCVLOWAT): 1,
    (SOL, socket.SO_SNDLOWAT): 1,
    (socket.IPPROTO_TCP, TCP_QUICKACK): 1,
    (socket.IPPROTO_TCP, socket.TCP_MAXSEG): 536,
    (socket.IPPROTO_TCP, TCP_SYNCNT): 6,
    (socket.IPPROTO_TCP, TCP_LINGER2): 60,
    (socket.IPPROTO_IP, socket.IP_TTL): 64,
    (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL): 1,
    (socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP): 1,
    (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS): 64,
}
# The last number of each level: SO_RCVPRIORITY, TCP_RTO_MIN_US and IP_LOCAL_PORT_RANGE.
LAST = {SOL: 82, socket.IPPROTO_TCP: 45, socket.IPPROTO_IP: 51}


def timeval_ns(value: tuple[int, int]) -> int | None:
    """Return (seconds, microseconds) in nanoseconds; None, for ever, if they are zero. EDOM."""
    if not 0 <= value[1] < 1_000_000:
        raise error(errno.EDOM)
    return value[0] * NSEC_PER_SEC + value[1] * 1000 or None


def check_option(sk: Sock, level: int, option: int, missing: int) -> None:
    """Raise `missing` for a level that IPv4 has not, EOPNOTSUPP, ENOPROTOOPT for the others."""
    if sk.family == socket.AF_UNIX and level != SOL:
        raise error(errno.EOPNOTSUPP)
    if sk.family == socket.AF_INET and level not in (SOL, sk.protocol, socket.IPPROTO_IP):
        raise error(missing)
    if sk.family == socket.AF_INET6 and level not in (
        SOL,
        sk.protocol,
        socket.IPPROTO_IP,
        socket.IPPROTO_IPV6,
    ):
        raise error(errno.ENOPROTOOPT)
    if option > LAST.get(level, option):
        raise error(errno.ENOPROTOOPT)


class OptionSyscalls(SyscallTable):
    """setsockopt and getsockopt."""

    @syscall
    def setsockopt(self, fd: int, level: int, option: int, value: Any) -> None:
        """Set an option; one without a meaning here is stored, and getsockopt returns it.

        ENOPROTOOPT for unknown and read-only options, EOPNOTSUPP for levels that Unix sockets
        have not, EDOM for invalid times, EINVAL.
        """
        sk = sock_of(self.fget(fd))
        check_option(sk, level, option, errno.ENOPROTOOPT)
        if sk.ops.setsockopt is not None and sk.ops.setsockopt(sk, level, option, value):
            return
        if (level, option) in READ_ONLY:
            raise error(errno.ENOPROTOOPT)
        if (level, option) in SWITCHES:
            value = int(bool(value))
        elif level == SOL:
            # Linux doubles the value, for its own bookkeeping.
            if option == socket.SO_SNDBUF:
                sk.sndbuf = max(2 * min(int(value), WMEM_DEFAULT), 4608)
            elif option == socket.SO_RCVBUF:
                sk.rcvbuf = max(2 * min(int(value), WMEM_DEFAULT), 2304)
            elif option == socket.SO_SNDTIMEO:
                sk.sndtimeo_ns = timeval_ns(value)
            elif option == socket.SO_RCVTIMEO:
                sk.rcvtimeo_ns = timeval_ns(value)
            elif option == socket.SO_LINGER and (
                isinstance(value, int) or (isinstance(value, bytes) and len(value) < LINGER_SIZE)
            ):
                raise error(errno.EINVAL)
        sk.options[level, option] = value

    @syscall
    def getsockopt(self, fd: int, level: int, option: int) -> Any:
        """Return the value of an option, Linux's own if it was never set. Clears SO_ERROR.

        ENOPROTOOPT, EOPNOTSUPP.
        """
        sk = sock_of(self.fget(fd))
        check_option(sk, level, option, errno.EOPNOTSUPP)
        if level == SOL:
            if option == socket.SO_ERROR:
                code, sk.sk_err = sk.sk_err, 0
                return code
            known = {
                socket.SO_TYPE: sk.type,
                SO_DOMAIN: sk.family,
                SO_PROTOCOL: sk.protocol,
                socket.SO_ACCEPTCONN: int(sk.state == TCP_LISTEN),
                socket.SO_SNDBUF: sk.sndbuf,
                socket.SO_RCVBUF: sk.rcvbuf,
            }
            if option in known:
                return known[option]
        elif (level, option) == (socket.IPPROTO_TCP, TCP_INFO):
            return bytes([sk.state]).ljust(TCP_INFO_SIZE, b"\0")
        name = level, option
        return sk.options.get(name, sk.default_options.get(name, DEFAULTS.get(name, 0)))
