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
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, EALREADY, EBADF, EINPROGRESS, EINTR, errno
from libc.stdint cimport uint8_t
from posix.unistd cimport close

from aiopoll.loop.core cimport LoopCore
from aiopoll.loop.handles cimport cancel_handle
from aiopoll.loop.transports.recv_buffer cimport READ_SIZE, read_buffer, recv_bytes
from aiopoll.loop.transports.sockaddr cimport (
    address, address_clear, address_from_python, address_to_python, is_known_family, socklen_t,
)
from aiopoll.reactor.descriptor cimport is_plain_socket, socket_fd
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

cdef uint8_t recv_pages = 0  # what recv_bytes() keeps, of all sockets
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


# Each makes one system call, and returns NOT_YET where it would have to wait.

cdef object recv_now(object sock, int fd, Py_ssize_t room):
    cdef ssize_t count
    cdef int code = 0
    check_number(sock, fd)
    if room <= READ_SIZE:
        data = recv_bytes(fd, room, MSG_DONTWAIT, &recv_pages, &code)
        return data if data is not None else outcome(-1, code)
    data = PyBytes_FromStringAndSize(NULL, room)
    count = c_recv(fd, PyBytes_AS_STRING(data), room, MSG_DONTWAIT)
    if count >= 0:
        return data if count == room else data[:count]
    return outcome(count, errno)


cdef object recv_into_now(object sock, int fd, object buffer):
    cdef Py_buffer view
    cdef ssize_t count
    cdef int code
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        check_number(sock, fd)
        count = c_recv(fd, view.buf, view.len, MSG_DONTWAIT)
        code = errno
    finally:
        PyBuffer_Release(&view)
    return outcome(count, code)


cdef object recvfrom_now(object sock, int fd, Py_ssize_t room):
    cdef address sender
    cdef ssize_t count
    address_clear(&sender)
    check_number(sock, fd)
    if room <= READ_SIZE:
        count = c_recvfrom(fd, read_buffer, room, MSG_DONTWAIT, &sender.sa, &sender.length)
        if count >= 0:
            return PyBytes_FromStringAndSize(read_buffer, count), address_to_python(&sender)
        return outcome(count, errno)
    data = PyBytes_FromStringAndSize(NULL, room)
    count = c_recvfrom(fd, PyBytes_AS_STRING(data), room, MSG_DONTWAIT, &sender.sa,
                       &sender.length)
    if count >= 0:
        return data[:count], address_to_python(&sender)
    return outcome(count, errno)


cdef object recvfrom_into_now(object sock, int fd, object buffer, Py_ssize_t room):
    cdef address sender
    cdef Py_buffer view
    cdef ssize_t count
    cdef int code
    address_clear(&sender)
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        check_number(sock, fd)
        count = c_recvfrom(fd, view.buf, min(room, view.len), MSG_DONTWAIT, &sender.sa,
                           &sender.length)
        code = errno
    finally:
        PyBuffer_Release(&view)
    if count >= 0:
        return count, address_to_python(&sender)
    return outcome(count, code)


cdef object sendto_now(object sock, int fd, object data, const address *receiver):
    cdef Py_buffer view
    cdef ssize_t count
    cdef int code
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        check_number(sock, fd)
        count = c_sendto(fd, view.buf, view.len, MSG_DONTWAIT | MSG_NOSIGNAL, &receiver.sa,
                         receiver.length)
        code = errno
    finally:
        PyBuffer_Release(&view)
    return outcome(count, code)


cdef object accept_now(object listener, int fd):
    cdef address peer
    cdef int accepted
    address_clear(&peer)
    check_number(listener, fd)
    accepted = c_accept4(fd, &peer.sa, &peer.length, SOCK_CLOEXEC)
    if accepted < 0:
        return outcome(accepted, errno)
    try:
        sock = Socket(family_of(listener), listener.type, listener.proto, fileno=accepted)
    except BaseException:
        close(accepted)
        raise
    sock.setblocking(False)
    return sock, address_to_python(&peer)


cdef class Wait(Runnable):
    """One sock_* call that waits."""

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
        return recv_now(self.sock, self.fd, self.room)


cdef class RecvInto(Wait):
    cdef object buffer

    cdef object attempt(self):
        return recv_into_now(self.sock, self.fd, self.buffer)


cdef class RecvFrom(Wait):
    cdef Py_ssize_t room

    cdef object attempt(self):
        return recvfrom_now(self.sock, self.fd, self.room)


cdef class RecvFromInto(Wait):
    cdef object buffer
    cdef Py_ssize_t room

    cdef object attempt(self):
        return recvfrom_into_now(self.sock, self.fd, self.buffer, self.room)


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
        return None if self.sent == self.view.len else NOT_YET

    cdef int stop(self) except -1:
        Wait.stop(self)
        PyBuffer_Release(&self.view)
        return 0


cdef class SendTo(Wait):
    cdef object data
    cdef address receiver

    cdef object attempt(self):
        return sendto_now(self.sock, self.fd, self.data, &self.receiver)


cdef class Accept(Wait):
    cdef object attempt(self):
        return accept_now(self.sock, self.fd)


cdef class Connect(Wait):
    cdef object where

    cdef object attempt(self):
        cdef int code = 0
        cdef socklen_t length = sizeof(code)
        check_number(self.sock, self.fd)
        if getsockopt(self.fd, SOL_SOCKET, SO_ERROR, &code, &length) != 0:
            raise failure(errno)
        if code == 0:
            return None
        raise OSError(code, f"Connect call failed {self.where}")


cdef class SockMethods(LoopCore):
    """The sock_* methods that EventLoop puts before asyncio's."""

    cdef int check_socket(self, object sock) except -1:
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        return 0

    cdef object start(self, Wait wait, object sock, int fd, int direction):
        """Has the reactor dispatch `wait`; returns the future of its result."""
        # Where a transport has the file, asyncio's own check raises.
        if self.transports.find(fd) is not None:
            self._ensure_fd_no_transport(fd)
        self.check_open()
        wait.loop = self
        wait.sock = sock
        wait.fd = fd
        wait.direction = direction
        wait.future = self.new_future()
        previous = self.reactor.callback_of(fd, direction)
        wait.registration = self.reactor.register(fd, direction, wait, GIVEN | ONCE, sock)
        if previous is not None:
            cancel_handle(previous, self._debug)
        return wait.future

    cdef object receive(self, Wait wait, object sock):
        """Begins a read; returns its result, or None where `wait.future` is to be awaited.

        It is tried at once, as in asyncio: an earlier wait for the file is replaced only if there
        is nothing to read.
        """
        self.check_socket(sock)
        wait.sock = sock
        wait.fd = socket_fd(sock)
        result = wait.attempt()
        if result is not NOT_YET:
            return result
        self.start(wait, sock, wait.fd, READ)
        return None

    async def sock_recv(self, sock, n):
        """Receives up to `n` bytes."""
        cdef Recv wait
        if not is_plain_socket(sock) or type(n) is not int or n <= 0:
            return await super(SockMethods, self).sock_recv(sock, n)
        wait = Recv.__new__(Recv)
        wait.room = n
        result = self.receive(wait, sock)
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
        result = self.receive(wait, sock)
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
        result = self.receive(wait, sock)
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
        nbytes = nbytes or memoryview(buf).nbytes
        wait = RecvFromInto.__new__(RecvFromInto)
        wait.buffer = buf
        wait.room = nbytes
        result = self.receive(wait, sock)
        if wait.future is None:
            return result
        try:
            return await wait.future
        finally:
            wait.stop()

    async def sock_sendall(self, sock, data):
        """Sends all of `data`; after an error it is not known how much of it has gone."""
        cdef SendAll wait
        cdef int fd
        if not is_plain_socket(sock) or not is_bytes(data):
            return await super(SockMethods, self).sock_sendall(sock, data)
        self.check_socket(sock)
        fd = socket_fd(sock)
        wait = SendAll.__new__(SendAll, data)
        wait.sock = sock
        wait.fd = fd
        if wait.attempt() is None:
            return None
        future = self.start(wait, sock, fd, WRITE)
        try:
            return await future
        finally:
            wait.stop()

    async def sock_sendto(self, sock, data, address):
        """Sends a datagram to `address`; returns the number of bytes."""
        cdef SendTo wait
        cdef int fd
        if not is_plain_socket(sock) or not is_bytes(data):
            return await super(SockMethods, self).sock_sendto(sock, data, address)
        wait = SendTo.__new__(SendTo)
        if not address_from_python(address, family_of(sock), &wait.receiver):
            return await super(SockMethods, self).sock_sendto(sock, data, address)
        self.check_socket(sock)
        PySys_Audit("socket.sendto", "OO", <PyObject *>sock, <PyObject *>address)
        fd = socket_fd(sock)
        count = sendto_now(sock, fd, data, &wait.receiver)
        if count is not NOT_YET:
            return count
        wait.data = data
        future = self.start(wait, sock, fd, WRITE)
        try:
            return await future
        finally:
            wait.stop()

    async def sock_accept(self, sock):
        """Accepts a connection; returns (socket, address), the socket non-blocking."""
        cdef Accept wait
        cdef int fd
        if (not is_plain_socket(sock) or socket_module.socket is not Socket
                or sock.gettimeout() != 0 or not is_known_family(family_of(sock))):
            return await super(SockMethods, self).sock_accept(sock)
        fd = socket_fd(sock)
        result = accept_now(sock, fd)
        if result is not NOT_YET:
            return result
        wait = Accept.__new__(Accept)
        future = self.start(wait, sock, fd, READ)
        try:
            return await future
        finally:
            wait.stop()

    async def sock_connect(self, sock, address):
        """Connects to `address`; a host that is a name is looked up first."""
        cdef Connect wait
        cdef SendTo target
        cdef int fd
        if not is_plain_socket(sock) or sock.gettimeout() != 0:
            return await super(SockMethods, self).sock_connect(sock, address)
        target = SendTo.__new__(SendTo)
        if not address_from_python(address, family_of(sock), &target.receiver):
            return await super(SockMethods, self).sock_connect(sock, address)
        PySys_Audit("socket.connect", "OO", <PyObject *>sock, <PyObject *>address)
        fd = socket_fd(sock)
        check_number(sock, fd)
        if c_connect(fd, &target.receiver.sa, target.receiver.length) == 0:
            return None
        # EAGAIN of a Unix socket: the listener's queue is full, and no event will report room.
        # EALREADY: an earlier call was given up, and goes on.
        if errno != EINPROGRESS and errno != EINTR and errno != EALREADY:
            raise failure(errno)
        wait = Connect.__new__(Connect)
        wait.where = address_to_python(&target.receiver)
        future = self.start(wait, sock, fd, WRITE)
        try:
            return await future
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
