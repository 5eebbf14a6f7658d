# cython: iterable_coroutine=True
"""The loop's sock_* methods.

Facts.  recv(2), send(2) and their kin take MSG_DONTWAIT: they never block, whatever the socket's
mode.  accept(2) and connect(2) go by the mode.  A future wakes its task in the next iteration.  The
socket module reports EAGAIN by an exception.

Rule.  The system call is made at once, on the descriptor that the socket has at that moment.
After EAGAIN one Wait is made, which the reactor dispatches: it tries again whenever the file is
ready, and takes itself off before it sets the future.  The socket is the program's, which may
close it meanwhile: a Wait whose socket has lost the number it waits for fails with EBADF, and
calls nothing by that number.  What is not a plain socket.socket (descriptor.pyx), or has arguments
that only the socket module can judge, goes to asyncio's own method, with its errors.

Why.  Most waits end with their first event: their place in the epoll set is disarmed by then, and
is left there for the next one.  A try that fails raises nothing.

Failure prevented.  sock_sendall() of three megabytes waits for room; the owner closes the socket,
and a new connection gets its number.  The rest of the data would go to the new connection's peer.

Cost.  A try that finds nothing is a system call, and a wait is one epoll_ctl.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, EALREADY, EBADF, EINPROGRESS, EINTR, errno
from posix.unistd cimport close

from aiopoll.loop.core cimport LoopCore
from aiopoll.loop.file_watcher cimport FileWatcher
from aiopoll.loop.handles cimport cancel_handle
from aiopoll.loop.transports.recv_buffer cimport READ_SIZE, read_buffer, recv_bytes
from aiopoll.loop.transports.sockaddr cimport (
    address, address_clear, address_from_python, address_to_python, is_known_family, socklen_t,
)
from aiopoll.reactor.descriptor cimport is_plain_socket, new_socket, socket_fd
from aiopoll.reactor.registration cimport GIVEN, ONCE, READ, WRITE
from aiopoll.reactor.runnable cimport Runnable

import _socket
import os
import socket as socket_module

cdef extern from "sockaddr.h" nogil:
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_ERROR

    ssize_t c_recv "recv"(int fd, void *buffer, size_t length, int flags)
    ssize_t c_send "send"(int fd, const void *buffer, size_t length, int flags)
    ssize_t c_recvfrom "recvfrom"(int fd, void *buffer, size_t length, int flags, void *address,
                                  socklen_t *address_length)
    ssize_t c_sendto "sendto"(int fd, const void *buffer, size_t length, int flags,
                              const void *address, socklen_t address_length)
    int c_connect "connect"(int fd, const void *address, socklen_t address_length)
    int c_accept4 "accept4"(int fd, void *address, socklen_t *address_length, int flags)
    int getsockopt(int fd, int level, int name, void *value, socklen_t *length)

cdef extern from "Python.h":
    int PySys_Audit(const char *event, const char *arguments, ...) except -1

cdef type Socket = socket_module.socket
cdef object family_of = _socket.socket.family.__get__  # without the enumeration's detour
cdef object NOT_YET = object()


cdef object failure(int code):
    return OSError(code, os.strerror(code))


cdef object outcome(ssize_t result, int code):
    """The count that a system call returned; NOT_YET for EAGAIN; raises OSError."""
    if result >= 0:
        return result
    if code == EAGAIN or code == EINTR:
        return NOT_YET
    raise failure(code)


cdef int check_number(object sock, int fd) except -1:
    """Raises OSError (EBADF) if the socket does not have the number; right before each call."""
    if socket_fd(sock) != fd or fd < 0:
        raise failure(EBADF)
    return 0


cdef class Wait(Runnable):
    """One sock_* call.

    attempt() makes one system call; it returns NOT_YET where the call would have to wait.
    """

    def __repr__(self):
        return f"<{type(self).__name__} of {self.sock!r}>"

    cdef int cancel(self) except -1:
        # Another reader or writer has taken its file: asyncio's then waits for ever, too.
        self.stopped = True
        return 0

    cdef int run(self) except -1:
        # A cancelled future must not take what is there for the next one to receive.
        if self.stopped or self.future.done():
            return 0
        try:
            result = self.attempt()
            if result is NOT_YET:
                self.loop.reactor.rearm(self.registration)
                return 0
        except (SystemExit, KeyboardInterrupt):
            self.loop.reactor.rearm(self.registration)
            raise
        except BaseException as error:
            self.stop()
            self.future.set_exception(error)
            return 0
        self.stop()
        self.future.set_result(result)
        return 0

    cdef object attempt(self):
        raise NotImplementedError

    cdef int stop(self) except -1:
        if not self.stopped:
            self.stopped = True
            if self.registration is not None and self.registration.callback(self.direction) is self:
                self.loop.reactor.unregister(self.registration, self.direction)
        return 0


cdef class Recv(Wait):
    cdef Py_ssize_t room

    cdef object attempt(self):
        cdef ssize_t count
        cdef int code = 0
        if self.room <= READ_SIZE:
            check_number(self.sock, self.fd)
            data = recv_bytes(self.fd, self.room, MSG_DONTWAIT,
                              &(<SockMethods>self.loop).recv_pages, &code)
            if data is None:
                return outcome(-1, code)
            self.loop.bytes_received += PyBytes_GET_SIZE(data)
            return data
        data = PyBytes_FromStringAndSize(NULL, self.room)
        check_number(self.sock, self.fd)
        count = c_recv(self.fd, PyBytes_AS_STRING(data), self.room, MSG_DONTWAIT)
        if count < 0:
            return outcome(count, errno)
        self.loop.bytes_received += count
        return data if count == self.room else data[:count]


cdef class RecvInto(Wait):
    cdef object buffer

    cdef object attempt(self):
        cdef Py_buffer view
        cdef ssize_t count
        cdef int code
        PyObject_GetBuffer(self.buffer, &view, PyBUF_WRITABLE)
        try:
            check_number(self.sock, self.fd)
            count = c_recv(self.fd, view.buf, view.len, MSG_DONTWAIT)
            code = errno
        finally:
            PyBuffer_Release(&view)
        self.loop.bytes_received += max(0, count)
        return outcome(count, code)


cdef class RecvFrom(Wait):
    cdef Py_ssize_t room

    cdef object attempt(self):
        cdef address sender
        cdef char *room = read_buffer()
        cdef ssize_t count
        address_clear(&sender)
        if self.room > READ_SIZE:
            data = PyBytes_FromStringAndSize(NULL, self.room)
            room = PyBytes_AS_STRING(data)
        check_number(self.sock, self.fd)
        count = c_recvfrom(self.fd, room, self.room, MSG_DONTWAIT, &sender.sa, &sender.length)
        if count < 0:
            return outcome(count, errno)
        self.loop.bytes_received += count
        return PyBytes_FromStringAndSize(room, count), address_to_python(&sender)


cdef class RecvFromInto(Wait):
    cdef object buffer
    cdef Py_ssize_t room

    cdef object attempt(self):
        cdef address sender
        cdef Py_buffer view
        cdef ssize_t count
        cdef int code
        address_clear(&sender)
        PyObject_GetBuffer(self.buffer, &view, PyBUF_WRITABLE)
        try:
            check_number(self.sock, self.fd)
            count = c_recvfrom(self.fd, view.buf, min(self.room, view.len), MSG_DONTWAIT,
                               &sender.sa, &sender.length)
            code = errno
        finally:
            PyBuffer_Release(&view)
        self.loop.bytes_received += max(0, count)
        return (count, address_to_python(&sender)) if count >= 0 else outcome(count, code)


cdef class SendAll(Wait):
    """Holds on to the buffer, so that its owner cannot shrink it meanwhile."""
    cdef Py_buffer view
    cdef Py_ssize_t sent

    def __cinit__(self, data):
        PyObject_GetBuffer(data, &self.view, PyBUF_SIMPLE)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    cdef object attempt(self):
        cdef ssize_t count
        check_number(self.sock, self.fd)
        count = c_send(self.fd, <char *>self.view.buf + self.sent, self.view.len - self.sent,
                       MSG_DONTWAIT | MSG_NOSIGNAL)
        if count < 0:
            return outcome(count, errno)
        self.sent += count
        self.loop.bytes_sent += count
        return None if self.sent == self.view.len else NOT_YET

    cdef int stop(self) except -1:
        Wait.stop(self)
        PyBuffer_Release(&self.view)
        return 0


cdef class SendTo(Wait):
    cdef object data
    cdef object name  # of the receiver, as the program gave it
    cdef address receiver

    cdef object attempt(self):
        cdef Py_buffer view
        cdef ssize_t count
        cdef int code
        PySys_Audit("socket.sendto", "OO", <PyObject *>self.sock, <PyObject *>self.name)
        PyObject_GetBuffer(self.data, &view, PyBUF_SIMPLE)
        try:
            check_number(self.sock, self.fd)
            count = c_sendto(self.fd, view.buf, view.len, MSG_DONTWAIT | MSG_NOSIGNAL,
                             &self.receiver.sa, self.receiver.length)
            code = errno
        finally:
            PyBuffer_Release(&view)
        self.loop.bytes_sent += max(0, count)
        return outcome(count, code)


cdef class Accept(Wait):
    cdef object attempt(self):
        cdef address peer
        cdef int accepted
        address_clear(&peer)
        check_number(self.sock, self.fd)
        accepted = c_accept4(self.fd, &peer.sa, &peer.length, SOCK_CLOEXEC)
        if accepted < 0:
            return outcome(accepted, errno)
        try:
            sock = new_socket(accepted, family_of(self.sock), self.sock.type, self.sock.proto)
        except BaseException:
            close(accepted)
            raise
        sock.setblocking(False)
        return sock, address_to_python(&peer)


cdef class Connect(Wait):
    cdef object name  # of the peer, as the program gave it
    cdef address peer
    cdef bint begun

    cdef object attempt(self):
        cdef int code = 0
        cdef socklen_t length = sizeof(code)
        if not self.begun:
            self.begun = True
            PySys_Audit("socket.connect", "OO", <PyObject *>self.sock, <PyObject *>self.name)
            check_number(self.sock, self.fd)
            if c_connect(self.fd, &self.peer.sa, self.peer.length) == 0:
                return None
            # EAGAIN of a Unix socket: the listener's queue is full, and no event will report room.
            # EALREADY: an earlier call was given up, and goes on.
            if errno != EINPROGRESS and errno != EINTR and errno != EALREADY:
                raise failure(errno)
            return NOT_YET
        check_number(self.sock, self.fd)
        if getsockopt(self.fd, SOL_SOCKET, SO_ERROR, &code, &length) != 0:
            raise failure(errno)
        if code == 0:
            return None
        raise OSError(code, f"Connect call failed {address_to_python(&self.peer)}")


cdef class SockMethods(FileWatcher):
    """The sock_* methods that EventLoop puts before asyncio's."""

    cdef object begin(self, Wait wait, object sock, int direction):
        """Makes the first attempt; returns its result, or None where `wait.future` is to be awaited.

        An earlier wait for the file is replaced only if this one has to wait, too, as in asyncio.
        """
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        wait.loop = self
        wait.sock = sock
        wait.fd = socket_fd(sock)
        result = wait.attempt()
        if result is not NOT_YET:
            return result
        # Where a transport has the file, asyncio's own check raises.
        if self.transports.find(wait.fd) is not None:
            self._ensure_fd_no_transport(wait.fd)
        self.check_open()
        wait.direction = direction
        future = self.new_future()
        previous = self.reactor.callback_of(wait.fd, direction)
        wait.registration = self.reactor.register(wait.fd, direction, wait, GIVEN | ONCE, sock)
        wait.future = future
        if previous is not None:
            cancel_handle(previous, self._debug)
        return None

    async def sock_recv(self, sock, n):
        """Receives up to `n` bytes."""
        cdef Recv wait
        if not is_plain_socket(sock) or type(n) is not int or n <= 0:
            return await super(SockMethods, self).sock_recv(sock, n)
        wait = Recv.__new__(Recv)
        wait.room = n
        result = self.begin(wait, sock, READ)
        if wait.future is None:
            return result
        try:
            return await wait.future
        finally:
            wait.stop()

    async def sock_recv_into(self, sock, buf):
        """Receives into a writable buffer; returns the number of bytes."""
        cdef RecvInto wait
        if not is_plain_socket(sock) or not is_writable(buf):
            return await super(SockMethods, self).sock_recv_into(sock, buf)
        wait = RecvInto.__new__(RecvInto)
        wait.buffer = buf
        result = self.begin(wait, sock, READ)
        if wait.future is None:
            return result
        try:
            return await wait.future
        finally:
            wait.stop()

    async def sock_recvfrom(self, sock, bufsize):
        """Receives a datagram of up to `bufsize` bytes; returns (data, address)."""
        cdef RecvFrom wait
        if (not is_plain_socket(sock) or type(bufsize) is not int or bufsize <= 0
                or not is_known_family(family_of(sock))):
            return await super(SockMethods, self).sock_recvfrom(sock, bufsize)
        wait = RecvFrom.__new__(RecvFrom)
        wait.room = bufsize
        result = self.begin(wait, sock, READ)
        if wait.future is None:
            return result
        try:
            return await wait.future
        finally:
            wait.stop()

    async def sock_recvfrom_into(self, sock, buf, nbytes=0):
        """Receives a datagram into a writable buffer; returns (number of bytes, address)."""
        cdef RecvFromInto wait
        if (not is_plain_socket(sock) or type(nbytes) is not int or not is_writable(buf)
                or not 0 <= nbytes <= memoryview(buf).nbytes
                or not is_known_family(family_of(sock))):
            return await super(SockMethods, self).sock_recvfrom_into(sock, buf, nbytes)
        wait = RecvFromInto.__new__(RecvFromInto)
        wait.buffer = buf
        wait.room = nbytes or memoryview(buf).nbytes
        result = self.begin(wait, sock, READ)
        if wait.future is None:
            return result
        try:
            return await wait.future
        finally:
            wait.stop()

    async def sock_sendall(self, sock, data):
        """Sends all of `data`; after an error it is not known how much of it has gone."""
        cdef SendAll wait
        if not is_plain_socket(sock) or not is_bytes(data):
            return await super(SockMethods, self).sock_sendall(sock, data)
        wait = SendAll.__new__(SendAll, data)
        result = self.begin(wait, sock, WRITE)
        if wait.future is None:
            return result
        try:
            return await wait.future
        finally:
            wait.stop()

    async def sock_sendto(self, sock, data, address):
        """Sends a datagram to `address`; returns the number of bytes."""
        cdef SendTo wait = SendTo.__new__(SendTo)
        if (not is_plain_socket(sock) or not is_bytes(data)
                or not address_from_python(address, family_of(sock), &wait.receiver)):
            return await super(SockMethods, self).sock_sendto(sock, data, address)
        wait.data = data
        wait.name = address
        result = self.begin(wait, sock, WRITE)
        if wait.future is None:
            return result
        try:
            return await wait.future
        finally:
            wait.stop()

    async def sock_accept(self, sock):
        """Accepts a connection; returns (socket, address), the socket non-blocking."""
        cdef Accept wait
        if (not is_plain_socket(sock) or socket_module.socket is not Socket
                or sock.gettimeout() != 0 or not is_known_family(family_of(sock))):
            return await super(SockMethods, self).sock_accept(sock)
        wait = Accept.__new__(Accept)
        result = self.begin(wait, sock, READ)
        if wait.future is None:
            return result
        try:
            return await wait.future
        finally:
            wait.stop()

    async def sock_connect(self, sock, address):
        """Connects to `address`; a host that is a name is looked up first."""
        cdef Connect wait = Connect.__new__(Connect)
        if (not is_plain_socket(sock) or sock.gettimeout() != 0
                or not address_from_python(address, family_of(sock), &wait.peer)):
            return await super(SockMethods, self).sock_connect(sock, address)
        wait.name = address
        result = self.begin(wait, sock, WRITE)
        if wait.future is None:
            return result
        try:
            return await wait.future
        finally:
            wait.stop()


cdef bint is_bytes(object data) except -1:
    """Whether it is a buffer of bytes in a row, as send(2) wants it."""
    return (type(data) is bytes or type(data) is bytearray
            or type(data) is memoryview and data.c_contiguous)


cdef bint is_writable(object buffer) except -1:
    return ((type(buffer) is bytearray or type(buffer) is memoryview and data_writable(buffer))
            and len(buffer) > 0)


cdef bint data_writable(object view) except -1:
    return view.c_contiguous and not view.readonly
