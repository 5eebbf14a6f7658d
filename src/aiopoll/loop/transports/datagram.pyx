"""Datagrams: received several at a time, and sent at once.

Facts.  recvfrom(2) takes one datagram.  Most come from the sender of the last one, and most
replies go to the last sender.  Making the address of one is dearer than receiving it.

Rule.  Up to a handful of datagrams are received each time that the socket is ready; the address of
the last one is kept in both its forms.  What can be sent at once is; what cannot, and whatever
only the socket module can judge (names, odd arguments), goes to asyncio's own sendto().  The
socket is asked for its number before each call.  One that was closed by its owner is EBADF, which
the protocol's error_received() is called: once for receiving, which ends with it, and for each
sendto().

Why.  asyncio's transport reports the same, but where a duplicate is open in each iteration again.

Cost.  Datagrams of one sender share one address tuple.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, EBADF, EINTR, errno
from libc.string cimport memcmp

from aiopoll.loop.transports.fd_reader cimport FdReader
from aiopoll.loop.transports.recv_buffer cimport READ_SIZE, read_buffer
from aiopoll.loop.transports.sockaddr cimport (
    address, address_clear, address_from_python, address_to_python, is_known_family, socklen_t,
)
from aiopoll.reactor.descriptor cimport socket_fd

import os

from asyncio import constants
from asyncio.log import logger

from aiopoll.loop.transports.selector_transports import SelectorDatagramTransport

cdef extern from "sockaddr.h" nogil:
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL

    ssize_t c_recvfrom "recvfrom"(int fd, void *buffer, size_t length, int flags, void *address,
                                  socklen_t *address_length)
    ssize_t c_send "send"(int fd, const void *buffer, size_t length, int flags)
    ssize_t c_sendto "sendto"(int fd, const void *buffer, size_t length, int flags,
                              const void *address, socklen_t address_length)

cdef extern from "Python.h":
    int PySys_Audit(const char *event, const char *arguments, ...) except -1

cdef enum:
    AT_ONCE = 16  # so that other files are served, too


@cython.final
cdef class DatagramReader(FdReader):
    """The reading side, and the address that was heard last."""

    cdef object sock
    cdef int family
    cdef bint connected
    cdef address heard
    cdef object heard_object  # None: none yet

    cdef object name_of(self, const address *sender):
        if (self.heard_object is None or sender.length != self.heard.length
                or memcmp(&sender.sa, &self.heard.sa, sender.length) != 0):
            self.heard_object = address_to_python(sender)
            self.heard = sender[0]
        return self.heard_object

    cdef bint read(self) except -1:
        cdef address sender
        cdef ssize_t count
        cdef int i
        for i in range(AT_ONCE):
            if socket_fd(self.sock) != self.fd:
                self.transport._lost_number()
                return i > 0
            address_clear(&sender)
            count = c_recvfrom(self.fd, read_buffer(), READ_SIZE, MSG_DONTWAIT, &sender.sa,
                               &sender.length)
            if count < 0:
                if errno != EAGAIN and errno != EINTR:
                    self.tell_error(OSError(errno, os.strerror(errno)))
                return i > 0
            data = PyBytes_FromStringAndSize(read_buffer(), count)
            try:
                self.transport._protocol.datagram_received(data, self.name_of(&sender))
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.report("datagram_received", error)
            if self.registration is None:
                break  # paused or closed
        return True

    cdef int tell_error(self, object error) except -1:
        try:
            self.transport._protocol.error_received(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as failure:
            self.report("error_received", failure)
        return 0

    cdef int send(self, object data, object receiver) except -1:
        """Sends a datagram: 1 if that is done, 0 if it cannot be done here or now."""
        cdef Py_buffer view
        cdef address named
        cdef const address *to = &named
        cdef ssize_t count
        cdef int code
        if not self.connected:
            if receiver is self.heard_object and receiver is not None:
                to = &self.heard
            elif not address_from_python(receiver, self.family, &named):
                return 0
            try:
                PySys_Audit("socket.sendto", "OO", <PyObject *>self.sock, <PyObject *>receiver)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.transport._fatal_error(error, "Fatal write error on datagram transport")
                return 1
        if socket_fd(self.sock) != self.fd:
            self.transport._protocol.error_received(OSError(EBADF, os.strerror(EBADF)))
            return 1
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        if self.connected:
            count = c_send(self.fd, view.buf, view.len, MSG_DONTWAIT | MSG_NOSIGNAL)
        else:
            count = c_sendto(self.fd, view.buf, view.len, MSG_DONTWAIT | MSG_NOSIGNAL, &to.sa,
                             to.length)
        code = errno
        PyBuffer_Release(&view)
        if count < 0:
            if code == EAGAIN or code == EINTR:
                return 0
            self.transport._protocol.error_received(OSError(code, os.strerror(code)))
        return 1


class DatagramTransport(SelectorDatagramTransport):
    """The transport of a UDP or Unix datagram socket, if that is a plain one."""

    def __init__(self, loop, sock, protocol, address=None, waiter=None, extra=None):
        super().__init__(loop, sock, protocol, address, waiter, extra)
        cdef DatagramReader reader = DatagramReader.__new__(DatagramReader)
        reader.family = sock.family
        reader.sock = sock
        reader.fd = self._sock_fd
        reader.transport = self
        reader.connected = bool(self._extra["peername"])
        self._reader = reader if is_known_family(reader.family) else None

    def is_reading(self):
        # Python 3.11.2, which Debian 12 has, lacks it, and _paused.
        return not self.is_closing() and not getattr(self, "_paused", False)

    def _add_reader(self, fd, callback, *args):
        if not self.is_reading():
            return
        if self._reader is None:
            super()._add_reader(fd, callback, *args)
        else:
            (<DatagramReader>self._reader).start(self, fd, self._sock)

    def _call_connection_lost(self, exc):
        try:
            super()._call_connection_lost(exc)
        finally:
            if self._sock is None:
                self._reader = None  # which holds the transport

    def sendto(self, data, addr=None):
        """Sends a datagram, or keeps it until it can be sent.

        addr: the receiver's; None, or the one address, for an endpoint that has a remote address.
        Raises TypeError if the data is not bytes-like, ValueError for another address than that.
        Once the transport is closed nothing is sent, and after a few times a warning is logged.
        """
        cdef DatagramReader reader = self._reader
        if self._sock is None and isinstance(data, (bytes, bytearray, memoryview)):
            if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
                logger.warning("socket.send() raised exception.")
            self._conn_lost += 1
            return
        if (reader is None or self._buffer or self._conn_lost or not data
                or (self._address and addr is not None and addr != self._address)
                or not (type(data) is bytes or type(data) is bytearray)
                or reader.send(data, addr) == 0):
            super().sendto(data, addr)
