"""Looking up addresses, without a thread where no look-up is needed.

Facts.  socket.getaddrinfo() may block on files, on the name service switch and on the network,
so asyncio calls it in its executor.  With AI_NUMERICHOST and AI_NUMERICSERV it never does: it
converts, or fails with gaierror (getaddrinfo(3)).  For a numeric host and port the result is one
and the same with and without these two.

Rule.  The most common form (a literal address, a port from 0 to 65535, no special flags) is put
together from the C library's result for another literal of the family: it differs in the address
alone.  All other forms are asked with the two flags; those that fail go to the executor, for the
result or the error.

A program may have put a function of its own in the place of one of the socket module's, which looks
up, forbids or counts: it is called, and in the executor, as by asyncio.

Cost.  A name is looked at twice: some microseconds before its look-up.
"""

import _socket
import functools
import socket
from typing import Any, TypeAlias

AddressInfo: TypeAlias = tuple[
    socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]
]

# As plain ints: the arithmetic of enumerations takes longer than all the rest.
_NUMERIC = int(socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)
_NUMERIC_NAME = int(socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
# These make the result depend on more than the address, or on the machine of the moment.
_SPECIAL = ~(_NUMERIC | int(socket.AI_PASSIVE))


# Those of Python, if they were not replaced before: of socket.py, and of the C module below.
_GLOBALS = getattr(socket.getaddrinfo, "__globals__", None)
_REAL = (
    socket.getaddrinfo if _GLOBALS is vars(socket) else None,
    _socket.getaddrinfo,
    _socket.getnameinfo,
)


def numeric_addresses(
    host: Any, port: Any, family: int, type: int, proto: int, flags: int
) -> list[Any] | None:
    """The result of socket.getaddrinfo(), if it needs no waiting; else None.

    Raises what that raises for arguments that are wrong in themselves, but no gaierror.
    """
    if socket.getaddrinfo is not _REAL[0] or _socket.getaddrinfo is not _REAL[1]:
        return None
    if host.__class__ is str and port.__class__ is int and 0 <= port <= 65535:
        try:
            if not flags & _SPECIAL:
                return _literal(host, port, family, type, proto, flags)
        except (OSError, UnicodeError, TypeError, ValueError):
            pass  # no literal address, or one that is refused: the C library shall say
    try:
        return socket.getaddrinfo(host, port, family, type, proto, flags | _NUMERIC)
    except socket.gaierror:
        return None


def _literal(
    host: str, port: int, family: int, type: int, proto: int, flags: int
) -> list[AddressInfo]:
    if ":" in host:
        text = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host))
        shape = _shape("::1", family, type, proto, flags)
        return [(*form, (text, port, 0, 0)) for form in shape]
    socket.inet_pton(socket.AF_INET, host)
    return [(*form, (host, port)) for form in _shape("127.0.0.1", family, type, proto, flags)]


@functools.lru_cache(maxsize=64)
def _shape(
    literal: str, family: int, type: int, proto: int, flags: int
) -> tuple[tuple[socket.AddressFamily, socket.SocketKind, int, str], ...]:
    """The fields before the address in each entry of the result for a literal address."""
    found = socket.getaddrinfo(literal, 0, family, type, proto, flags | _NUMERIC)
    if any(entry[4][0] != literal for entry in found):
        raise ValueError("the address is not left as it is")
    return tuple(entry[:4] for entry in found)


def is_numeric_name(flags: int) -> bool:
    """Whether socket.getnameinfo() with these flags looks nothing up."""
    return flags & _NUMERIC_NAME == _NUMERIC_NAME and socket.getnameinfo is _REAL[2]
