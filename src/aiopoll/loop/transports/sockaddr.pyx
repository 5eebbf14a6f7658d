"""Socket addresses, between the kernel's form and the socket module's.

Facts.  The socket module's forms are (host, port) for AF_INET, (host, port, flowinfo, scope_id)
for AF_INET6, a str or, in the abstract namespace, bytes for AF_UNIX, and None where the kernel
gives no address.  Its own conversions are private to it, and cannot be had without its system call.

Rule.  These three families, and of what comes from Python only what needs no look-up and no
judgement: hosts that inet_pton takes, ports and numbers in their ranges, paths that fit.  For all
else the result is "not here", and the caller leaves it to the socket module, with its errors.

Why.  A failed socket.recvfrom() raises: the exception costs more than the system call.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    object PyUnicode_DecodeASCII(const char *text, Py_ssize_t size, const char *errors)
    object PyUnicode_DecodeFSDefault(const char *text)
    const char *PyUnicode_AsUTF8(object text) except NULL
    bint PyUnicode_IS_ASCII(object text)

cdef extern from "sockaddr.h" nogil:
    enum:
        INET6_ADDRSTRLEN
        UNIX_PATH_AT
        UNIX_PATH_ROOM

    uint16_t ntohs(uint16_t number)
    uint16_t htons(uint16_t number)
    uint32_t ntohl(uint32_t number)
    uint32_t htonl(uint32_t number)
    void ip_address_expand(const ip_address *ip, address *address)
    int address_dotted(in_addr host, char *text)
    const char *inet_ntop(int family, const void *address, char *text, socklen_t room)
    int inet_pton(int family, const char *text, void *address)

import os


cdef bint is_known_family(int family) noexcept:
    return family == AF_INET or family == AF_INET6 or family == AF_UNIX


cdef object address_to_python(const address *address):
    """An address of a known family, as the socket module shows it."""
    cdef char text[INET6_ADDRSTRLEN]
    if address.length == 0:
        return None
    if address.sa.sa_family == AF_INET:
        return PyUnicode_DecodeASCII(text, address_dotted(address.v4.sin_addr, text), NULL), (
            ntohs(address.v4.sin_port))
    if address.sa.sa_family == AF_INET6:
        inet_ntop(AF_INET6, &address.v6.sin6_addr, text, INET6_ADDRSTRLEN)
        return (text.decode("ascii"), ntohs(address.v6.sin6_port),
                ntohl(address.v6.sin6_flowinfo), address.v6.sin6_scope_id)
    if address.length > UNIX_PATH_AT and address.un.sun_path[0] == 0:
        return PyBytes_FromStringAndSize(address.un.sun_path, address.length - UNIX_PATH_AT)
    return PyUnicode_DecodeFSDefault(address.un.sun_path)


cdef object ip_address_to_python(const ip_address *ip):
    """An address that a connection keeps; None if it is not known."""
    cdef address full
    ip_address_expand(ip, &full)
    return address_to_python(&full)


cdef bint address_from_python(object value, int family, address *address) except -1:
    """Fills `address` in; False for what only the socket module can judge."""
    address_clear(address)
    if family == AF_UNIX:
        return unix_address(value, address)
    if type(value) is not tuple or not 2 <= len(value) <= (4 if family == AF_INET6 else 2):
        return False
    if type(value[0]) is not str or not PyUnicode_IS_ASCII(value[0]) or "\0" in value[0]:
        return False
    if not is_number(value[1], 0xFFFF):
        return False
    if family == AF_INET:
        if inet_pton(AF_INET, PyUnicode_AsUTF8(value[0]), &address.v4.sin_addr) != 1:
            return False
        address.v4.sin_family = AF_INET
        address.v4.sin_port = htons(value[1])
        address.length = sizeof(sockaddr_in)
        return True
    if family != AF_INET6:
        return False
    if inet_pton(AF_INET6, PyUnicode_AsUTF8(value[0]), &address.v6.sin6_addr) != 1:
        return False
    if len(value) > 2:
        if not is_number(value[2], 0xFFFFF):
            return False
        address.v6.sin6_flowinfo = htonl(value[2])
    if len(value) > 3:
        if not is_number(value[3], 0xFFFFFFFFu):
            return False
        address.v6.sin6_scope_id = value[3]
    address.v6.sin6_family = AF_INET6
    address.v6.sin6_port = htons(value[1])
    address.length = sizeof(sockaddr_in6)
    return True


cdef bint is_number(object value, uint32_t most) except -1:
    return type(value) is int and 0 <= value <= most


cdef bint unix_address(object value, address *address) except -1:
    if type(value) is str:
        path = os.fsencode(value)
    elif type(value) is bytes:
        path = value
    else:
        return False
    # A path needs room for its terminator, an abstract name does not; "" is for bind(2) only.
    size = PyBytes_GET_SIZE(path)
    if size == 0 or size > UNIX_PATH_ROOM or (path[0] != 0 and size == UNIX_PATH_ROOM):
        return False
    if path[0] != 0 and b"\0" in path:
        return False
    address.un.sun_family = AF_UNIX
    memcpy(address.un.sun_path, PyBytes_AS_STRING(path), size)
    address.length = UNIX_PATH_AT + size + (path[0] != 0)
    return True
