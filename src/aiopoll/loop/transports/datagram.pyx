"""Datagrams: received several at a time, and sent at once.

Facts.  recvfrom(2) takes one datagram, recvmmsg(2) many: from the third on that is cheaper, by a fifth
where there are 16.  Most come from the sender of the last one, and most replies go to the last sender.
Making the address of one is dearer than receiving it.  A program may have a duplicate of a socket,
in another process too, and take what the kernel has queued.

Rule.  Up to a handful of datagrams are received each time that the socket is ready; the address of
the last one is kept in both its forms.  What can be sent at once is; what cannot, and whatever
only the socket module can judge (names, odd arguments), goes to asyncio's own sendto().  The
socket is asked for its number before each call.  One that was closed by its owner is EBADF, which
the protocol's error_received() is called: once for receiving, which ends with it, and for each
sendto().

A batch is taken from the kernel only while no other code can have the socket: if the loop made it,
the program has not asked for it, and the process has not forked; or if the program says so.  What
a callback leaves of a batch, for it raises SystemExit or pauses, comes next, before what is newer.  A
child of a fork delivers none of it.  Where a callback has sent on a connected socket, the error that
this may have caused is asked for before the next datagram of the batch, as recvfrom() would.

Datagrams are coalesced only where the program says that no other code reads the socket: when that
is switched off, the kernel gives no sizes any more for those that it has queued.

Why.  asyncio's transport reports the same, but where a duplicate is open in each iteration again.

Failure prevented.  Two processes serve one socket.  One has taken 16 datagrams when its callback
closes the transport: the 15 others would be lost, which asyncio had left to the other process.

Cost.  Datagrams of one sender share one address tuple.  A loop that has taken a batch keeps 1 MiB
of address space, of which it uses the pages that datagrams have filled.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.errno cimport (
    EAGAIN, EBADF, EINTR, EINVAL, EIO, EMSGSIZE, ENOPROTOOPT, ENOSYS, EPERM, errno,
)
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcmp

from aiopoll.loop.transports.fd_reader cimport FdReader
from aiopoll.loop.transports.recv_buffer cimport READ_SIZE, read_buffer
from aiopoll.loop.transports.sockaddr cimport (
    AF_UNIX, address, address_clear, address_from_python, address_to_python, is_known_family,
    socklen_t,
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

cdef extern from "datagrams.h" nogil:
    enum:
        DATAGRAMS_MAX
        SLOT_SIZE
        SEGMENTS_MAX
        SEGMENTS_SIZE_MAX

    struct iovec:
        void *iov_base
        size_t iov_len

    struct taken:
        address sender
        uint32_t size
        uint32_t segment

    int take_datagrams(int fd, char *room, taken *taken, int count)
    int pending_error(int fd)
    bint set_coalescing(int fd, int on)
    bint segments_known(int fd)
    int send_segments(int fd, iovec *pieces, int count, uint16_t segment, const address *to)
    int send_datagrams(int fd, iovec *pieces, int count, const address *to)

cdef extern from "Python.h":
    int PySys_Audit(const char *event, const char *arguments, ...) except -1

cdef enum:
    AT_ONCE = DATAGRAMS_MAX  # so that other files are served, too
    MANY = 3  # from so many on a batch is cheaper

cdef enum Holders:
    UNKNOWN
    LOOP_UNTIL_FORK  # the loop alone, for the process has not forked since
    LOOP  # the loop alone: the program says so

cdef int forks = 0


def count_fork():
    """Counts a fork: the child has all sockets, too."""
    global forks
    forks += 1


os.register_at_fork(before=count_fork)


@cython.final
cdef class DatagramReader(FdReader):
    """The reading side, the address that was heard last, and what is left of a batch."""

    cdef object sock
    cdef int family
    cdef bint connected
    cdef address heard
    cdef object heard_object  # None: none yet
    cdef Holders holders
    cdef int forks  # those that were counted when the loop was the only holder
    cdef bint asked  # for the socket, by the program
    cdef bint coalesced  # what the kernel has queued may be several in one
    cdef bint sent  # something, since the kernel was asked for an error
    cdef bint queued  # to go on in the next iteration
    cdef int found  # datagrams when it was read last
    cdef int segment_max  # the largest that the kernel was not seen to refuse; 0: none, -1: ask
    cdef list batch  # what was taken, from `at` on not delivered yet; None: nothing
    cdef taken *slots  # of the batch
    cdef int at
    cdef uint32_t offset  # into the slot, in bytes

    def __dealloc__(self):
        PyMem_Free(self.slots)

    cdef int start(self, object transport, int fd, object file) except -1:
        FdReader.start(self, transport, fd, file)
        return self.go_on_later()

    cdef int go_on_later(self) except -1:
        """Has what is left of a batch delivered in the next iteration."""
        if self.batch is not None and self.registration is not None and not self.queued:
            self.queued = True
            self.loop.schedule(go_on, (self,), None)
        return 0

    cdef object name_of(self, const address *sender):
        if (self.heard_object is None or sender.length != self.heard.length
                or memcmp(&sender.sa, &self.heard.sa, sender.length) != 0):
            self.heard_object = address_to_python(sender)
            self.heard = sender[0]
        return self.heard_object

    cdef bint read(self) except -1:
        cdef int done = 0
        # So was the kernel's queue, after what was taken; what came since is ready by itself.
        cdef bint empty = self.batch is not None
        try:
            while done < AT_ONCE and self.registration is not None:  # paused or closed
                if self.batch is None and empty:
                    break
                if socket_fd(self.sock) != self.fd:
                    self.batch = None
                    self.transport._lost_number()
                    break
                if self.batch is not None:
                    if self.deliver():
                        done += 1
                elif self.coalesced or (self.is_alone() and (self.found >= MANY or done + 1 >= MANY)):
                    if not self.take(AT_ONCE - done, &empty):
                        break
                elif self.receive():
                    done += 1
                else:
                    break
        finally:
            self.found = done
            self.go_on_later()
        return done > 0

    cdef bint is_alone(self) noexcept:
        return self.holders == LOOP or (self.holders == LOOP_UNTIL_FORK and self.forks == forks)

    cdef bint receive(self) except -1:
        """Receives and delivers one datagram; False if there is none."""
        cdef address sender
        cdef ssize_t count
        address_clear(&sender)
        count = c_recvfrom(self.fd, read_buffer(), READ_SIZE, MSG_DONTWAIT, &sender.sa,
                           &sender.length)
        if count < 0:
            if errno != EAGAIN and errno != EINTR:
                self.tell_error(errno)
            return False
        self.loop.bytes_received += count
        self.call(PyBytes_FromStringAndSize(read_buffer(), count), &sender)
        return True

    cdef bint take(self, int count, bint *empty) except -1:
        """Takes up to `count` slots of datagrams from the kernel; False if there is nothing to do."""
        cdef char *room
        cdef int i, took
        if self.slots == NULL:
            self.slots = <taken *>PyMem_Malloc(DATAGRAMS_MAX * sizeof(taken))
            if self.slots == NULL:
                raise MemoryError
        if self.loop.datagram_room is None:
            self.loop.datagram_room = PyBytes_FromStringAndSize(NULL, DATAGRAMS_MAX * SLOT_SIZE)
        room = PyBytes_AS_STRING(self.loop.datagram_room)
        took = take_datagrams(self.fd, room, self.slots, count)
        if took < 0:
            if (errno == ENOSYS or errno == EPERM) and self.holders != UNKNOWN:
                self.holders = UNKNOWN  # a sandbox without recvmmsg: recvfrom goes on
                return True
            if errno != EAGAIN and errno != EINTR:
                self.tell_error(errno)
            return False
        empty[0] = took < count
        self.batch = [PyBytes_FromStringAndSize(room + i * SLOT_SIZE, self.slots[i].size)
                      for i in range(took)]
        for i in range(took):
            self.loop.bytes_received += self.slots[i].size
        self.at = 0
        self.offset = 0
        self.sent = False
        return True

    cdef bint deliver(self) except -1:
        """Delivers the next datagram of the batch, or an error that comes before it."""
        cdef taken *slot = &self.slots[self.at]
        cdef uint32_t size
        cdef int code
        if self.loop.reactor.is_forked_child():
            self.batch = None  # the parent's
            return False
        if self.sent and self.connected:
            self.sent = False
            code = pending_error(self.fd)
            if code:
                self.tell_error(code)
                return False
        data = self.batch[self.at]
        if slot.segment:
            size = min(slot.segment, slot.size - self.offset)
            data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + self.offset, size)
            self.offset += size
        else:
            self.offset = slot.size
        if self.offset == slot.size:
            self.at += 1
            self.offset = 0
            if self.at == len(self.batch):
                self.batch = None
        self.call(data, &slot.sender)
        return True

    cdef int call(self, object data, const address *sender) except -1:
        try:
            self.transport._protocol.datagram_received(data, self.name_of(sender))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report("datagram_received", error)
        return 0

    def share(self):
        """Takes no batches any more, for the program asks for the socket."""
        self.asked = True
        if self.holders == LOOP_UNTIL_FORK:
            self.holders = UNKNOWN

    def own(self, bint promised, bint coalesce):
        """Takes batches from now on, if it can; returns whether datagrams are coalesced.

        promised: by the program: no other code reads the socket.  Else it is seen to.
        """
        # Unix datagrams may be longer than a slot.
        if self.family != AF_UNIX and (promised or not self.asked):
            self.holders = LOOP if promised else LOOP_UNTIL_FORK
            self.forks = forks
            if coalesce and socket_fd(self.sock) == self.fd and set_coalescing(self.fd, True):
                self.coalesced = True
        return coalesce and self.coalesced

    cdef int tell_error(self, int code) except -1:
        try:
            self.transport._protocol.error_received(OSError(code, os.strerror(code)))
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
        self.sent = True
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
        else:
            self.loop.bytes_sent += count
        return 1

    cdef int run_of(self, list pieces, Py_ssize_t first, iovec *vectors) except -1:
        """Fills in the pieces that one call can send; how many.

        By segments: all of one size, but the last, which may be shorter.
        """
        cdef Py_ssize_t i, size, segment = 0, total = 0
        cdef bint by_segments = False
        cdef int count = 0
        for i in range(first, min(first + SEGMENTS_MAX, len(pieces))):
            data = pieces[i]
            if type(data) is not bytes:
                break
            size = PyBytes_GET_SIZE(data)
            total += size
            if count == 0:
                segment = size
                by_segments = size <= self.segment_max
            elif by_segments and (size > segment or total > SEGMENTS_SIZE_MAX):
                break
            if size == 0:
                break
            vectors[count].iov_base = PyBytes_AS_STRING(data)
            vectors[count].iov_len = size
            count += 1
            if size < segment and by_segments:
                break
        return count

    cdef int count_sent(self, const iovec *vectors, int count) noexcept:
        cdef int i
        for i in range(count):
            self.loop.bytes_sent += vectors[i].iov_len
        return count

    def send_run(self, list pieces not None, Py_ssize_t first, receiver):
        """Sends several of the pieces by one call: how many are done with, 0 if that cannot be."""
        cdef iovec vectors[SEGMENTS_MAX]
        cdef address named
        cdef const address *to = NULL
        cdef int i, count, code
        if socket_fd(self.sock) != self.fd:
            return 0
        if self.segment_max < 0:
            self.segment_max = (SEGMENTS_SIZE_MAX if self.family != AF_UNIX
                                and segments_known(self.fd) else 0)
        count = self.run_of(pieces, first, vectors)
        if not self.connected:
            to = &named
            if receiver is self.heard_object and receiver is not None:
                to = &self.heard
            elif not address_from_python(receiver, self.family, &named):
                return 0
        if count < 2:
            return 0
        if to != NULL:
            for i in range(count):
                try:
                    PySys_Audit("socket.sendto", "OO", <PyObject *>self.sock, <PyObject *>receiver)
                except BaseException:
                    count = i  # sendto() will raise the event of this one again
                    break
        if count < 2 or socket_fd(self.sock) != self.fd:
            return 0
        self.sent = True
        if <int>vectors[0].iov_len > self.segment_max:
            # An error that the peer's host has sent would be lost to sendmmsg.
            return 0 if to == NULL else self.count_sent(
                vectors, max(0, send_datagrams(self.fd, vectors, count, to)))
        code = send_segments(self.fd, vectors, count, vectors[0].iov_len, to)
        if code == 0:
            return self.count_sent(vectors, count)
        if code == EAGAIN or code == EINTR:
            return 0
        if code == EINVAL or code == EMSGSIZE:
            self.segment_max = vectors[0].iov_len - 1
            return 0
        if code == EIO or code == ENOPROTOOPT:
            self.segment_max = 0
            return 0
        self.transport._protocol.error_received(OSError(code, os.strerror(code)))
        return 1


def go_on(DatagramReader reader):
    """Delivers what is left of a batch, and then reads on."""
    reader.queued = False
    reader.run()


class DatagramTransport(SelectorDatagramTransport):
    """The transport of a UDP or Unix datagram socket, if that is a plain one."""

    def __init__(self, loop, sock, protocol, address=None, waiter=None, extra=None):
        super().__init__(loop, sock, protocol, address, waiter, extra)
        cdef DatagramReader reader = DatagramReader.__new__(DatagramReader)
        reader.family = sock.family
        reader.sock = sock
        reader.fd = self._sock_fd
        reader.loop = loop
        reader.transport = self
        reader.connected = bool(self._extra["peername"])
        reader.segment_max = -1
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
