"""socket: the host's sockets, and the world's names and addresses.

Facts: `socket.socket` is a class that programs call, subclass and ask isinstance of.
create_connection, create_server, getfqdn and the descriptor passing of `socket` are Python: they
work on the names that are replaced here.

Rule: a name resolves by the world's network, which may fail; a host knows its own name and
localhost without it. Numbers, passive addresses and the services below need no network. IPv4 comes
before IPv6.
Left out: services beyond the table, raw and packet sockets, IPv6 between hosts.
"""

from __future__ import annotations

import _socket
import ipaddress
import os
import socket
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...kernel.uapi import SOCK_CLOEXEC
from ...kernel.usersocket import KernelSocket
from .. import inside
from .dispatch import Lookalike, Replacement, functions
from .escape import refuse

if TYPE_CHECKING:
    from ...kernel.kernel import Kernel
    from ..host import Host

real_socket = socket.socket
SERVICES = {
    "ftp": 21,
    "ssh": 22,
    "telnet": 23,
    "smtp": 25,
    "domain": 53,
    "http": 80,
    "pop3": 110,
    "ntp": 123,
    "imap2": 143,
    "https": 443,
    "submission": 587,
    "imaps": 993,
    "pop3s": 995,
    "mysql": 3306,
    "postgresql": 5432,
    "redis": 6379,
}
PROTOCOLS = {"ip": 0, "icmp": 1, "tcp": 6, "udp": 17, "ipv6": 41, "ipv6-icmp": 58}
INTERFACES = [(1, "lo"), (2, "eth0")]
# What getaddrinfo offers, in its order: (type, protocol).
KINDS = ((socket.SOCK_STREAM, 6), (socket.SOCK_DGRAM, 17), (socket.SOCK_RAW, 0))


class Socket(KernelSocket, metaclass=Lookalike):
    """What `socket.socket` is inside: a socket of the host that makes it."""

    original = real_socket
    kinds: tuple[type, ...] = (real_socket, KernelSocket)
    simulate = None

    def __init__(
        self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None
    ) -> None:
        host = inside.host()
        if host is None:
            raise RuntimeError("a socket of the simulated world is made inside of it")
        if fileno is None:
            family = socket.AF_INET if family == -1 else family
            type = socket.SOCK_STREAM if type == -1 else type
            proto = 0 if proto == -1 else proto
        elif not isinstance(fileno, int):
            raise TypeError("an integer is required for fileno")
        elif fileno < 0:
            raise ValueError("negative file descriptor")
        super().__init__(host.kernel, family, type, proto, fileno=fileno)
        if fileno is None:
            # As socket's, which shows what it was given.
            self.proto = proto
        if fileno is None and self._timeout is None:
            default = getdefaulttimeout(host)
            if default is not None:
                self.settimeout(default)

    def __repr__(self) -> str:
        kind = type(self)
        text = f"<{kind.__module__}.{kind.__qualname__}{' [closed]' if self._closed else ''}"
        text += f" fd={self.fileno()}, family={int(self.family)}, type={int(self.type)}"
        text += f", proto={self.proto}"
        if not self._closed:
            for label, call in (("laddr", self.getsockname), ("raddr", self.getpeername)):
                try:
                    text += f", {label}={call()}"
                except OSError:
                    pass
        return text + ">"

    def _another(self, fd: int) -> KernelSocket:
        return Socket(fileno=fd)

    def bind(self, address: Any) -> None:
        super().bind(self._resolved(address))

    def connect(self, address: Any) -> None:
        super().connect(self._resolved(address))

    def sendto(self, data: Any, *flags_and_address: Any) -> int:
        if flags_and_address:
            *flags, address = flags_and_address
            flags_and_address = (*flags, self._resolved(address))
        return super().sendto(data, *flags_and_address)

    def _resolved(self, address: Any) -> Any:
        """Return the address with a number in place of a name. gaierror, TypeError."""
        if self.family not in (socket.AF_INET, socket.AF_INET6):
            return os.fsencode(address).decode() if isinstance(address, os.PathLike) else address
        if not isinstance(address, tuple):
            raise TypeError(
                f"{self.family.name} address must be tuple, not {type(address).__name__}"
            )
        if len(address) < 2:
            raise TypeError(f"{self.family.name} address must be a pair (host, port)")
        name, port, *rest = address
        if not isinstance(port, int):
            raise TypeError(f"{type(port).__name__!r} object cannot be interpreted as an integer")
        if not 0 <= port <= 0xFFFF:
            raise OverflowError("port must be 0-65535.")
        if name == "<broadcast>":
            return ("255.255.255.255", port)
        if name == "":
            name = "::" if self.family == socket.AF_INET6 else "0.0.0.0"
        host = inside.host()
        if host is None:
            return address
        found = resolve(host, text_of(name), int(self.family), 0)
        return (found[0][1], port, *rest)


Socket.__name__ = Socket.__qualname__ = "socket"
Socket.__module__ = "socket"


# Names


def text_of(name: Any) -> str:
    """Return a host or service name as text. TypeError, UnicodeError as socket's."""
    if isinstance(name, str):
        name.encode("idna")
        return name
    if isinstance(name, (bytes, bytearray)):
        return bytes(name).decode("ascii")
    raise TypeError(f"getaddrinfo() argument 1 must be string or None, not {type(name).__name__}")


def gaierror(code: int) -> socket.gaierror:
    texts = {
        socket.EAI_NONAME: "Name or service not known",
        socket.EAI_SERVICE: "Servname not supported for ai_socktype",
        socket.EAI_ADDRFAMILY: "Address family for hostname not supported",
        socket.EAI_FAMILY: "ai_family not supported",
        socket.EAI_SOCKTYPE: "ai_socktype not supported",
        socket.EAI_BADFLAGS: "Bad value for ai_flags",
        socket.EAI_NODATA: "No address associated with hostname",
    }
    return socket.gaierror(code, texts[code])


def _number(name: str) -> tuple[int, str] | None:
    """Return (family, address) of a number, as inet_aton and inet_pton read it; else None."""
    plain = name.partition("%")[0]
    try:
        version = ipaddress.ip_address(plain).version
    except ValueError:
        try:
            return socket.AF_INET, socket.inet_ntoa(socket.inet_aton(name))
        except (OSError, UnicodeError):
            return None
    return (socket.AF_INET6, plain) if version == 6 else (socket.AF_INET, plain)


def resolve(host: Host, name: str, family: int, flags: int) -> list[tuple[int, str]]:
    """Return the (family, address) pairs of a name or number. socket.gaierror."""
    number = _number(name)
    if number is not None:
        if family not in (0, number[0]):
            raise gaierror(socket.EAI_ADDRFAMILY)
        return [number]
    if flags & socket.AI_NUMERICHOST:
        raise gaierror(socket.EAI_NONAME)
    plain = name.rstrip(".").lower()
    if plain == "localhost" or plain.endswith(".localhost"):
        found: list[tuple[int, str]] = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    elif plain == host.name.lower():
        found = [(socket.AF_INET, host.address)]
    else:
        network = host.world.network
        if network is None:
            raise gaierror(socket.EAI_NONAME)
        found = [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, address)
            for address in network.resolve(host.name, plain)
        ]
    fitting = [pair for pair in found if family in (0, pair[0])]
    if not fitting:
        raise gaierror(socket.EAI_NODATA)
    return fitting


def _port(service: Any, flags: int) -> int:
    """Return the number of a port or service. gaierror (EAI_SERVICE), OverflowError."""
    if service is None:
        return 0
    if isinstance(service, int):
        return service & 0xFFFF
    text = text_of(service)
    if text.strip().isdigit():
        return int(text) & 0xFFFF
    if flags & getattr(socket, "AI_NUMERICSERV", 0):
        raise gaierror(socket.EAI_NONAME)
    if text == "":
        return 0
    if text not in SERVICES:
        raise gaierror(socket.EAI_SERVICE)
    return SERVICES[text]


def getaddrinfo(
    host: Host,
    name: Any,
    port: Any,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[Any]:
    """socket.getaddrinfo: the five-tuples of `name` and `port`. socket.gaierror."""
    if name is None and port is None:
        raise gaierror(socket.EAI_NONAME)
    if family not in (0, socket.AF_INET, socket.AF_INET6):
        raise gaierror(socket.EAI_FAMILY)
    kinds = [
        (kind, number)
        for kind, number in KINDS
        if type in (0, kind) and (proto in (0, number) or type == kind == socket.SOCK_RAW)
    ]
    if not kinds:
        raise gaierror(socket.EAI_SOCKTYPE)
    number = _port(port, flags)
    if name is None:
        passive = bool(flags & socket.AI_PASSIVE)
        pairs = [
            (socket.AF_INET, "0.0.0.0" if passive else "127.0.0.1"),
            (socket.AF_INET6, "::" if passive else "::1"),
        ]
        found = [pair for pair in pairs if family in (0, pair[0])]
    else:
        found = [
            (socket.AddressFamily(one), address)
            for one, address in resolve(host, text_of(name), family, flags)
        ]
    canonical = ""
    if flags & socket.AI_CANONNAME and name is not None:
        canonical = text_of(name)
    infos: list[Any] = []
    for one, address in found:
        for kind, protocol in kinds:
            place: tuple[Any, ...] = (address, number)
            if one == socket.AF_INET6:
                place = (address, number, 0, 0)
            infos.append(
                (
                    socket.AddressFamily(one),
                    socket.SocketKind(kind),
                    proto or protocol,
                    canonical if not infos else "",
                    place,
                )
            )
    return infos


def gethostbyname(host: Host, name: Any) -> str:
    if name == "":
        return "0.0.0.0"
    return resolve(host, text_of(name), socket.AF_INET, 0)[0][1]


def gethostbyname_ex(host: Host, name: Any) -> tuple[str, list[str], list[str]]:
    found = resolve(host, text_of(name), socket.AF_INET, 0)
    return text_of(name), [], [address for _, address in found]


def _name_of(host: Host, address: str) -> str | None:
    """Return the name of an address, None if nothing in the world has it."""
    if address.startswith("127.") or address == "::1":
        return "localhost"
    for other in host.world.hosts.values():
        if other.address == address:
            return other.name
    return None


def gethostbyaddr(host: Host, name: Any) -> tuple[str, list[str], list[str]]:
    """socket.gethostbyaddr: herror for an address without a name."""
    address = resolve(host, text_of(name), 0, 0)[0][1]
    found = _name_of(host, address)
    if found is None:
        raise socket.herror(1, "Unknown host")
    return found, [], [address]


def getnameinfo(host: Host, sockaddr: Any, flags: int) -> tuple[str, str]:
    """socket.getnameinfo: gaierror for a name in place of a number, or for want of one."""
    if not isinstance(sockaddr, tuple):
        raise TypeError("getnameinfo() argument 1 must be a tuple")
    number = _number(text_of(sockaddr[0]))
    if number is None:
        raise gaierror(socket.EAI_NONAME)
    name = None if flags & socket.NI_NUMERICHOST else _name_of(host, number[1])
    if name is None and flags & socket.NI_NAMEREQD:
        raise gaierror(socket.EAI_NONAME)
    port = int(sockaddr[1])
    services = {} if flags & socket.NI_NUMERICSERV else {v: k for k, v in SERVICES.items()}
    return name or number[1], services.get(port, str(port))


def getservbyname(host: Host, name: str, protocol: str = "tcp", /) -> int:
    if name not in SERVICES:
        raise OSError("service/proto not found")
    return SERVICES[name]


def getservbyport(host: Host, port: int, protocol: str = "tcp", /) -> str:
    for name, number in SERVICES.items():
        if number == port:
            return name
    raise OSError("port/proto not found")


def getprotobyname(host: Host, name: str, /) -> int:
    if name not in PROTOCOLS:
        raise OSError("protocol not found")
    return PROTOCOLS[name]


def gethostname(host: Host) -> str:
    return host.name


def if_nameindex(host: Host) -> list[tuple[int, str]]:
    return list(INTERFACES)


def if_nametoindex(host: Host, name: Any, /) -> int:
    for number, known in INTERFACES:
        if known == os.fsdecode(name):
            return number
    raise OSError("no interface with this name")


def if_indextoname(host: Host, number: int, /) -> str:
    for index, known in INTERFACES:
        if index == number:
            return known
    raise OSError(6, "No such device or address")


# Sockets


def socketpair(
    host: Host, family: int | None = None, type: int = socket.SOCK_STREAM, proto: int = 0
) -> tuple[Socket, Socket]:
    one, two = host.kernel.socketpair(
        socket.AF_UNIX if family is None else family, type & ~SOCK_CLOEXEC, proto
    )
    return Socket(fileno=one), Socket(fileno=two)


def fromfd(host: Host, fd: int, family: int, type: int, proto: int = 0) -> Socket:
    return Socket(family, type, proto, fileno=host.kernel.dup(fd))


def close(host: Host, fd: Any, /) -> None:
    host.kernel.close(int(fd))


def dup(host: Host, fd: Any, /) -> int:
    return host.kernel.dup(int(fd))


_defaults: weakref.WeakKeyDictionary[Kernel, float | None] = weakref.WeakKeyDictionary()


def getdefaulttimeout(host: Host) -> float | None:
    return _defaults.get(host.kernel)


def setdefaulttimeout(host: Host, timeout: float | None, /) -> None:
    if timeout is not None and timeout < 0:
        raise ValueError("Timeout value out of range")
    _defaults[host.kernel] = timeout


def _make_socket(original: Any) -> Any:
    return Socket


CALLS: dict[str, Callable[..., Any]] = {
    "getaddrinfo": getaddrinfo,
    "gethostbyname": gethostbyname,
    "gethostbyname_ex": gethostbyname_ex,
    "gethostbyaddr": gethostbyaddr,
    "getnameinfo": getnameinfo,
    "getservbyname": getservbyname,
    "getservbyport": getservbyport,
    "getprotobyname": getprotobyname,
    "gethostname": gethostname,
    "sethostname": refuse("socket.sethostname", "name the host by world.host(name, main)"),
    "if_nameindex": if_nameindex,
    "if_nametoindex": if_nametoindex,
    "if_indextoname": if_indextoname,
    "socketpair": socketpair,
    "fromfd": fromfd,
    "close": close,
    "dup": dup,
    "getdefaulttimeout": getdefaulttimeout,
    "setdefaulttimeout": setdefaulttimeout,
}


def replacements() -> Iterable[Replacement]:
    yield socket, "socket", _make_socket
    yield from functions(socket, CALLS)
    yield from functions(_socket, CALLS)
