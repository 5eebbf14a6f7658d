"""The stream transport: reading, and writes that go out at once.

Facts.  asyncio's selector transport allocates 256 KiB for each read and shrinks it to what came,
and sends through a socket object.  Most reads are small, and most writes fit the socket's buffer.
A failed send or recv takes the socket's error with it: the next call reports another one.

Rule.  SocketTransport is asyncio's transport but for two methods.  It reads into one buffer that
all transports share, and makes a bytes object of what came; it sends with send(2) as long as
nothing is waiting to be sent.  What is left over, and all that is rare (closing, flow control,
half-close, sendfile), goes to asyncio's own methods, with the state that they keep.

Why.  The states of a transport, and the order of its callbacks, then are asyncio's on every
Python version.

Cost.  256 KiB a process.  The GIL is held in send and recv, which never block: releasing it costs
more than a small transfer, and the shared buffer needs it.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, errno

import os

from asyncio import BufferedProtocol, selector_events

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_NOSIGNAL

    ssize_t c_recv "recv"(int fd, void *buffer, size_t length, int flags)
    ssize_t c_send "send"(int fd, const void *buffer, size_t length, int flags)

cdef enum:
    READ_SIZE = 256 * 1024  # what asyncio reads at most at once

cdef char[READ_SIZE] read_buffer


class SocketTransport(selector_events._SelectorSocketTransport):
    """The transport of TCP and Unix stream connections."""

    def set_protocol(self, protocol):
        """Hands the connection to another protocol."""
        self._buffered = isinstance(protocol, BufferedProtocol)
        super().set_protocol(protocol)

    def _read_ready(self):
        if self._conn_lost:
            return
        if self._buffered:
            read_buffered(self, self._sock_fd)
        else:
            read_plain(self, self._sock_fd)

    def write(self, data):
        """Sends `data`, or keeps what cannot be sent now until it can.

        Raises TypeError if it is not bytes-like, RuntimeError after write_eof().
        """
        if (self._conn_lost or self._eof or self._empty_waiter is not None or self._buffer
                or not (type(data) is bytes or type(data) is bytearray) or not data):
            super().write(data)
            return
        rest = send_now(self, self._sock_fd, data)
        if rest is not None:
            super().write(rest)


cdef int read_plain(object transport, int fd) except -1:
    cdef ssize_t count = c_recv(fd, read_buffer, READ_SIZE, 0)
    if count <= 0:
        return nothing_read(transport, count, errno)
    data = PyBytes_FromStringAndSize(read_buffer, count)
    try:
        transport._protocol.data_received(data)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        transport._fatal_error(error, "Fatal error: protocol.data_received() call failed.")
    return 0


cdef int read_buffered(object transport, int fd) except -1:
    cdef Py_buffer view
    cdef ssize_t count
    cdef int code
    protocol = transport._protocol
    try:
        buffer = protocol.get_buffer(-1)
        if not len(buffer):
            raise RuntimeError("get_buffer() returned an empty buffer")
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        transport._fatal_error(error, "Fatal error: protocol.get_buffer() call failed.")
        return 0
    if transport._conn_lost:
        return 0  # get_buffer() has aborted the connection
    try:
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    except BaseException as error:
        transport._fatal_error(error, "Fatal read error on socket transport")
        return 0
    count = c_recv(fd, view.buf, view.len, 0)
    code = errno
    PyBuffer_Release(&view)
    if count <= 0:
        return nothing_read(transport, count, code)
    try:
        protocol.buffer_updated(count)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        transport._fatal_error(error, "Fatal error: protocol.buffer_updated() call failed.")
    return 0


cdef int nothing_read(object transport, ssize_t count, int code) except -1:
    """Deals with a recv(2) that brought nothing."""
    if count == 0:
        transport._read_ready__on_eof()
    elif code != EAGAIN and code != EINTR:
        transport._fatal_error(OSError(code, os.strerror(code)),
                               "Fatal read error on socket transport")
    return 0


cdef object send_now(object transport, int fd, object data):
    """Sends what the socket takes; answers what is left, or None."""
    cdef Py_buffer view
    cdef ssize_t sent
    cdef int code
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    sent = c_send(fd, view.buf, view.len, MSG_NOSIGNAL)
    code = errno
    PyBuffer_Release(&view)
    if sent == len(data):
        return None
    if sent < 0 and code != EAGAIN and code != EINTR:
        transport._fatal_error(OSError(code, os.strerror(code)),
                               "Fatal write error on socket transport")
        return None
    # A copy where the owner may change it before it is sent.
    sent = max(sent, 0)
    return data[sent:] if type(data) is bytearray else memoryview(data)[sent:]
