"""Descriptors whose numbers other people own.

Facts.  A number names an open file until it is closed; the kernel then gives the lowest
free number to the next file.  Any thread may close, detach or reuse; with the GIL held none can in
between two lines of C.  A socket object holds its number in a C field, -1 once closed or detached;
no header declares where, but it is the first field in every version so far.  A class's version tag
changes when the class or one of its bases does (Include/cpython/object.h).

Rule.  Code that keeps the number of an object that is not its own asks the object, under the GIL
and right before each system call, whether it still has that number.  Only sockets that are exactly
socket.socket, with no method replaced, are served by system calls of our own.

Why.  The object is what was given; its number is only how it is spelled at the moment.

Without a GIL another thread may close a socket between the look and the call, as it may between those
of socket.recv() on every Python.  What the loop's own thread closes is covered, and the loop's own
numbers are.

Failure prevented.  A task waits in sock_recv(a) on descriptor 7.  The owner closes `a` and opens
`b`, which gets 7.  The event of `a` was in the queue already: a recv(2) on 7 would take what the
peer of `b` has sent, and `b` would never see it.

Cost.  A load and a comparison for a socket, a call of fileno() for other objects.
"""

from aiopoll.reactor.registration cimport Registration

import socket as socket_module

cdef extern from *:
    """
    #include <Python.h>

    /* The field sock_fd of a PySocketSockObject (Modules/socketmodule.h). */
    static inline int descriptor_field(PyObject *sock)
    {
        return __atomic_load_n((const int *)((const char *)sock + sizeof(PyObject)),
                               __ATOMIC_RELAXED);
    }

    static inline unsigned int descriptor_type_version(PyObject *type)
    {
        return __atomic_load_n(&((PyTypeObject *)type)->tp_version_tag, __ATOMIC_RELAXED);
    }

    /* The version in which the methods of socket.socket were found unchanged. */
    static unsigned int known_version;

    static inline int version_is_known(unsigned int version)
    {
        return version && version == __atomic_load_n(&known_version, __ATOMIC_RELAXED);
    }

    static inline void know_version(unsigned int version)
    {
        __atomic_store_n(&known_version, version, __ATOMIC_RELAXED);
    }
    """
    int descriptor_field(object sock) noexcept
    unsigned int descriptor_type_version(object type) noexcept
    bint version_is_known(unsigned int version) noexcept
    void know_version(unsigned int version) noexcept

cdef type Socket = socket_module.socket

PLAIN_METHODS = (
    "accept", "close", "connect", "detach", "fileno", "getpeername", "getsockname", "getsockopt", "recv", "recv_into", "recvfrom",
    "recvfrom_into", "recvmsg", "send", "sendall", "sendmsg", "sendto", "setsockopt", "shutdown",
    "_accept",
)
"""The methods of socket.socket whose place system calls take."""

cdef tuple ORIGINALS = tuple([getattr(Socket, name, None) for name in PLAIN_METHODS])
cdef object call_fileno = Socket.fileno
cdef object call_detach = socket_module.SocketType.detach


cdef bint field_is_known() except -1:
    """Whether a socket's number is where it is looked for; asked of two sockets, open and closed."""
    first, second = socket_module.socketpair()
    try:
        if (descriptor_field(first) != first.fileno()
                or descriptor_field(second) != second.fileno()):
            return False
    finally:
        first.close()
        second.close()
    return descriptor_field(first) == -1 and descriptor_field(second) == -1


cdef bint FIELD_IS_KNOWN = field_is_known()


cdef int socket_fd(object sock) noexcept:
    """The descriptor of a socket.socket, or of an instance of a subclass; -1 if it has none."""
    if FIELD_IS_KNOWN:
        return descriptor_field(sock)
    try:
        return call_fileno(sock)
    except BaseException:
        return -1


cdef bint is_unchanged() noexcept:
    """Whether no method of socket.socket has been replaced."""
    if version_is_known(descriptor_type_version(Socket)):
        return True
    try:
        for i, name in enumerate(PLAIN_METHODS):
            if getattr(Socket, name, None) is not ORIGINALS[i]:
                return False
    except BaseException:
        return False
    # The look-ups have given the class a tag, if there was one left to give.
    know_version(descriptor_type_version(Socket))
    return True


cdef bint is_plain_socket(object sock) noexcept:
    """Whether it is exactly a socket.socket, with no method of PLAIN_METHODS replaced."""
    return type(sock) is Socket and is_unchanged()


cdef bint has_number(object file, int fd) except -1:
    """Whether the descriptor of a file object is still `fd`; a closed object has none."""
    if type(file) is Socket:
        return socket_fd(file) == fd
    try:
        return file.fileno() == fd
    except (AttributeError, OSError, TypeError, ValueError):
        return False


cdef object new_socket(int fd, object family=-1, object kind=-1, object protocol=-1):
    """A socket.socket that owns `fd`; where it cannot be made the caller still does."""
    sock = Socket.__new__(Socket)
    try:
        Socket.__init__(sock, family, kind, protocol, fd)
    except BaseException:
        # An interrupt may come once it has the number, which both would close.
        if socket_fd(sock) >= 0:
            call_detach(sock)
        raise
    return sock


class Descriptor(int):
    """A number that is used only as long as `file` has it.

    It is an int to asyncio's own code, which passes it on to the loop's methods.
    """

    def __new__(cls, number, file):
        descriptor = int.__new__(cls, number)
        descriptor.file = file
        return descriptor


cdef object owner_of(object file):
    """The object whose number is given; None where it is not known."""
    if type(file) is Descriptor:
        return file.file
    return None if isinstance(file, int) else file


cdef bint is_of(Registration registration, object owner) except -1:
    """Whether a registration is of the file that `owner` has, or had."""
    if owner is None or registration.file is owner:
        return True
    # Another object of the same number may be of the same file, as long as both have it.
    return has_number(owner, registration.fd) and (
        registration.file is None or has_number(registration.file, registration.fd))


def is_plain(sock):
    """Whether a socket is served by system calls; not if its class is another or was changed."""
    return is_plain_socket(sock)


def number_of(sock):
    """The descriptor of a socket.socket; -1 if it has none any more."""
    if not isinstance(sock, Socket):
        raise TypeError(f"a socket is needed, not {type(sock).__name__}")
    return socket_fd(sock)
