"""The transport of TCP and Unix stream connections: asyncio's interface to a Stream.

Facts.  asyncio.Transport has a slot of its own, so that no class can be derived from it and from
a compiled class at once.  Programs ask isinstance(transport, asyncio.Transport), and asyncio's
sendfile() asks for its _FlowControlMixin and for the private names at the end of this file.

Rule.  SocketTransport is a Python class, compiled, whose state is in a Stream: the argument checks
and what is asked rarely is here, what runs for each event is there.

Cost.  Two objects a connection.
"""

from cpython.contextvars cimport PyContext_CopyCurrent
from cpython.object cimport PyObject
from libc.errno cimport EBADF, errno

from aiopoll.loop.core cimport LoopCore
from aiopoll.loop.handles cimport check_here, is_elsewhere, slot_offset
from aiopoll.loop.transports.compiled_protocol cimport attach
from aiopoll.loop.transports.connection cimport CLOSED, CLOSING, LOST, OPEN, STARTED
from aiopoll.loop.transports.sockaddr cimport (
    address, ip_address_ask, ip_address_keep, ip_address_to_python,
)
from aiopoll.loop.transports.stream cimport Stream, limit_as_size
from aiopoll.reactor.descriptor cimport new_socket

import os
import socket
import warnings

from asyncio import constants, selector_events, transports, trsock
from asyncio.log import logger

cdef extern from "<sys/socket.h>" nogil:
    enum:
        SHUT_WR

    int c_shutdown "shutdown"(int fd, int how)

cdef extern from "socket_options.h" nogil:
    void socket_set_nodelay(int fd)

cdef object Socket = socket.socket  # whatever a program puts in its place later

cdef object asyncios_write = selector_events._SelectorSocketTransport.write

cdef enum:
    HIGH_WATER = 64 * 1024  # asyncio's default, in bytes


class ExtraInfo(dict):
    """The dict of asyncio's get_extra_info(): an entry is made when it is asked for."""

    __slots__ = ("_stream",)

    def get(self, name, default=None):
        """The entry of that name, else `default`."""
        return self[name] if name in self or add_extra(self, self._stream, name) else default

    def __missing__(self, name):
        if not add_extra(self, self._stream, name):
            raise KeyError(name)
        return self[name]


cdef object extra_slot = transports.BaseTransport._extra


class SocketTransport(transports._FlowControlMixin):
    """The transport of a stream connection over `sock`, which becomes its own."""

    __slots__ = ("__dict__", "__weakref__", "_stream")

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def __init__(self, loop, sock, protocol, waiter=None, extra=None, server=None, context=None):
        cdef Stream stream = new_stream(self, loop, sock.fileno(), sock, protocol, context)
        socket_set_nodelay(stream.fd)
        ip_address_ask(&stream.here, stream.fd, False)
        ip_address_ask(&stream.peer, stream.fd, True)
        extra_slot.__set__(self, None)
        if extra:
            self._extra.update(extra)
        if not stream.here.family:
            # No IP: there is nothing to gain by asking late.
            self._extra.setdefault("sockname", ask(sock.getsockname))
            self._extra.setdefault("peername", ask(sock.getpeername))
        start(self, stream, server)
        if waiter is not None:
            (<LoopCore>loop).schedule(set_connected, (waiter,), None)

    def __repr__(self):
        cdef Stream stream = stream_of(self)
        if stream.state == CLOSED:
            return f"<{type(self).__name__} closed>"
        return (f"<{type(self).__name__}{' closing' if stream.state != OPEN else ''} fd={stream.fd}"
                f" read={'idle' if stream.reading is None else 'polling'}"
                f" write=<{'polling' if stream.blocked else 'idle'}, bufsize={stream.size}>>")

    def __del__(self, _warn=warnings.warn):
        cdef Stream stream = getattr(self, "_stream", None)
        if stream is not None and stream.fd >= 0:
            try:
                _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            finally:
                stream.release()

    def set_protocol(self, protocol):
        """Gives the connection to another protocol."""
        stream_of(self).set_protocol(protocol)

    def get_protocol(self):
        """The protocol; None once the connection is lost."""
        return stream_of(self).protocol

    # Reading

    def is_reading(self):
        """Whether data is handed to the protocol as it comes."""
        cdef Stream stream = stream_of(self)
        return stream.state == OPEN and not stream.paused

    def pause_reading(self):
        """Stops handing data to the protocol; doing so again does nothing."""
        cdef Stream stream = stream_of(self)
        check_here(stream.loop)
        if stream.state != OPEN or stream.paused:
            return
        stream.paused = True
        stream.stop_reading()
        if stream.loop._debug:
            logger.debug("%r pauses reading", self)

    def resume_reading(self):
        """Undoes pause_reading(); without one it does nothing."""
        cdef Stream stream = stream_of(self)
        check_here(stream.loop)
        if stream.state != OPEN or not stream.paused:
            return
        stream.paused = False
        if stream.started == STARTED:
            stream.start_reading()
        if stream.loop._debug:
            logger.debug("%r resumes reading", self)

    # Writing

    def write(self, data):
        """Sends `data`, or keeps what cannot be sent now until it can.

        When it returns, the kernel has what it takes; pieces of one callback may share a segment.
        Raises TypeError if it is not bytes-like, RuntimeError after write_eof().
        """
        write_to(stream_of(self), data)

    def writelines(self, list_of_data):
        """write() for each of several buffers, of any type; they leave together.

        Raises TypeError, and writes nothing, if one is no buffer.
        """
        cdef Stream stream = stream_of(self)
        check_here(stream.loop)
        if stream.eof or stream.empty_waiter is not None:
            raise refusal(stream, "writelines")
        pieces = [data if type(data) is bytes else bytes(data)
                  if isinstance(data, (bytes, bytearray, memoryview)) else bytes(memoryview(data))
                  for data in list_of_data]
        if stream.state >= LOST:
            warn_lost(stream)
        elif any(pieces):
            stream.write_pieces(pieces)

    def can_write_eof(self):
        """True: a stream can be closed for writing alone."""
        return True

    def write_eof(self):
        """Ends writing, once everything has been sent; reading goes on."""
        cdef Stream stream = stream_of(self)
        check_here(stream.loop)
        if stream.state != OPEN or stream.eof:
            return
        stream.eof = True
        if stream.size:
            return  # the last of it will be followed by the end
        if not stream.has_number():
            raise OSError(EBADF, os.strerror(EBADF))
        if c_shutdown(stream.fd, SHUT_WR) != 0:
            raise OSError(errno, os.strerror(errno))

    def get_write_buffer_size(self):
        """Bytes that the kernel has not taken yet."""
        return stream_of(self).size

    def get_write_buffer_limits(self):
        """The low-water and the high-water mark, in bytes, as they were set."""
        cdef Stream stream = stream_of(self)
        return (stream.low, stream.high) if stream.limits is None else stream.limits

    def set_write_buffer_limits(self, high=None, low=None):
        """Sets the marks at which pause_writing() and resume_writing() are called.

        high: in bytes; 64 KiB, or four times `low` if only that is given.
        low: in bytes; a quarter of `high`.
        Raises ValueError unless high >= low >= 0.
        """
        self._set_write_buffer_limits(high, low)
        stream_of(self).pause_protocol()

    # The end

    def is_closing(self):
        """Whether the connection is closed, or will be once everything has been sent."""
        return stream_of(self).state != OPEN

    def close(self):
        """Closes the connection once everything has been sent."""
        cdef Stream stream = stream_of(self)
        if is_elsewhere(stream.loop):  # a finalizer's thread, mostly
            stream.loop.call_soon_threadsafe(self.close)
        elif stream.transport is not None:
            stream.close()

    def abort(self):
        """Closes the connection at once; what the kernel does not take now is lost."""
        self._force_close(None)

    def _close_if_lost(self, sock):
        """Closes `sock` at once, if it is this connection's and nothing more will be sent.

        connection_lost() is called later, as always.
        """
        cdef Stream stream = stream_of(self)
        if stream.state >= LOST and stream.sock is sock:
            stream.close_file(self)

    # Names that asyncio's own methods use, and programs too.

    @property
    def _extra(self):
        extra = extra_slot.__get__(self)
        if extra is None:  # few ask
            extra = ExtraInfo()
            extra._stream = stream_of(self)
            extra_slot.__set__(self, extra)
        return extra

    @property
    def _loop(self):
        cdef Stream stream = stream_of(self)
        return None if stream.transport is None else stream.loop

    @property
    def _sock(self):
        return stream_of(self).python_socket()

    @property
    def _server(self):
        return stream_of(self).server

    @property
    def _sock_fd(self):
        return stream_of(self).fd

    @property
    def _protocol(self):
        return stream_of(self).protocol

    @_protocol.setter
    def _protocol(self, protocol):
        stream_of(self).set_protocol(protocol)

    @property
    def _protocol_paused(self):
        return stream_of(self).protocol_paused != 0

    @property
    def _paused(self):
        return stream_of(self).paused != 0

    @property
    def _closing(self):
        return stream_of(self).state != OPEN

    @_closing.setter
    def _closing(self, closing):
        cdef Stream stream = stream_of(self)
        if stream.state < LOST and bool(closing) != (stream.state == CLOSING):
            stream.enter(CLOSING if closing else OPEN)

    @property
    def _conn_lost(self):
        cdef Stream stream = stream_of(self)
        return stream.writes_lost + (stream.state >= LOST)

    @property
    def _eof(self):
        return stream_of(self).eof != 0

    def _set_write_buffer_limits(self, high=None, low=None):
        cdef Stream stream = stream_of(self)
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        stream.high, stream.low = limit_as_size(high), limit_as_size(low)
        stream.limits = low, high

    def _make_empty_waiter(self):
        cdef Stream stream = stream_of(self)
        if stream.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        stream.empty_waiter = stream.loop.create_future()
        if not stream.size:
            stream.empty_waiter.set_result(None)
        return stream.empty_waiter

    def _reset_empty_waiter(self):
        stream_of(self).empty_waiter = None

    def _fatal_error(self, exc, message="Fatal error on transport"):
        stream_of(self).fatal_error(exc, message)

    def _force_close(self, exc):
        cdef Stream stream = stream_of(self)
        if is_elsewhere(stream.loop):
            stream.loop.call_soon_threadsafe(self._force_close, exc)
        else:
            stream.force_close(exc)

    def _call_connection_lost(self, exc):
        stream_of(self).connection_lost(exc)


def set_connected(waiter):
    """Sets the future of a connection that is waited for, after connection_made()."""
    if not waiter.done():
        waiter.set_result(None)


cdef Py_ssize_t STREAM_OFFSET = slot_offset(SocketTransport, "_stream")
cdef type Transport = SocketTransport


cdef inline Stream stream_of(object transport):
    """The state of a transport, from its slot."""
    cdef PyObject *stream
    if type(transport) is not Transport and not isinstance(transport, Transport):
        raise TypeError(f"a SocketTransport is needed, not {type(transport).__name__}")
    stream = (<PyObject **>(<char *><PyObject *>transport + STREAM_OFFSET))[0]
    if stream == NULL:
        raise RuntimeError("this transport was not initialised")
    return <Stream?><object>stream


cdef bint add_extra(object extra, Stream stream, object name) except -1:
    """Makes the entry of that name; whether there is such a one."""
    if name == "peername":
        extra[name] = ip_address_to_python(&stream.peer)
    elif name == "sockname":
        extra[name] = ip_address_to_python(&stream.here)
    elif name == "socket":
        # Asked too late, it is one without a descriptor, which asyncio's has become, too.
        extra[name] = trsock.TransportSocket(stream.python_socket() or Socket.__new__(Socket))
    else:
        return False
    return True


cdef object ask(object call):
    """A name of the socket, or None if it has none."""
    try:
        return call()
    except OSError:
        return None


cdef Stream stream_behind(object transport):
    """The Stream of a SocketTransport; None of any other transport, a subclass's too."""
    return stream_of(transport) if type(transport) is SocketTransport else None


cdef int write_to(Stream stream, object data) except -1:
    """SocketTransport.write()."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        asyncios_write(None, data)  # raises, in the words of the running Python
    check_here(stream.loop)
    if stream.eof or stream.empty_waiter is not None:
        raise refusal(stream, "write")
    if not data:
        return 0
    if stream.state >= LOST:
        return warn_lost(stream)
    return stream.write(data)


cdef int warn_lost(Stream stream) except -1:
    """Counts a write after the end, and warns of it from some on."""
    if stream.writes_lost + 1 >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
        logger.warning("socket.send() raised exception.")
    elif stream.writes_lost < 0xFF:
        stream.writes_lost += 1
    return 0


cdef object refusal(Stream stream, str call):
    if stream.eof:
        return RuntimeError(f"Cannot call {call}() after write_eof()")
    return RuntimeError(f"unable to {call}; sendfile is in progress")


cdef Stream new_stream(object transport, LoopCore loop, int fd, object sock, object protocol,
                       object context):
    """sock: the socket that owns `fd`; None if the Stream does, from here on.

    context: what the protocol's methods run in; None for a copy of the current one.
    """
    cdef Stream stream
    if fd < 0:
        raise OSError(EBADF, f"{os.strerror(EBADF)}: the socket was closed")
    stream = Stream.__new__(Stream)
    stream.sock = sock  # first: what has a number alone closes it
    stream.fd = fd
    stream.loop = loop
    stream.transport = transport
    stream.set_protocol(protocol)
    stream.context = PyContext_CopyCurrent() if context is None else context
    stream.high = HIGH_WATER
    stream.low = HIGH_WATER // 4
    transport._stream = stream
    return stream


cdef int start(object transport, Stream stream, object server) except -1:
    """Adds the connection to its server and its loop; its first run calls connection_made()."""
    if server is not None:
        attach(server, transport)
        stream.server = server
    stream.loop.transports.add(stream.fd, transport)
    stream.loop.ready.push(stream)
    return 0


def adopt(transport):
    """Lets a connection, plain or over TLS, own its number where no other code has its socket."""
    carrier = transport
    protocol = getattr(transport, "_ssl_protocol", None)
    if protocol is not None:
        carrier = protocol._transport
    if type(carrier) is SocketTransport:
        stream_of(carrier).adopt()


def has_lost_its_number(transport):
    """Whether the descriptor that a transport is known by is another file's by now."""
    cdef Stream stream = stream_behind(transport)
    if stream is not None:
        return not stream.has_number()
    sock = getattr(transport, "_sock", None)
    return sock is not None and sock.fileno() != transport._sock_fd


cdef object accepted_transport(LoopCore loop, int fd, const address *peer, object protocol,
                               object server, object context):
    """The transport of a connection that was accepted; `fd` becomes its own."""
    transport = SocketTransport.__new__(SocketTransport)
    cdef Stream stream = new_stream(transport, loop, fd, None, protocol, context)
    try:
        ip_address_keep(&stream.peer, peer)
        ip_address_ask(&stream.here, fd, False)
        extra_slot.__set__(transport, None)
        if not stream.here.family:
            sock = new_socket(fd)
            try:
                transport._extra.update(
                    sockname=ask(sock.getsockname), peername=ask(sock.getpeername))
            finally:
                sock.detach()  # the number stays the connection's own
        start(transport, stream, server)
    except BaseException:
        stream.release()  # at once: the peer sees the end
        raise
    return transport
