"""A stream connection: reading, and sending what was written.

Facts.  Most writes fit the socket's buffer.  On TCP a small write costs a segment, and wakes the
peer; one with MSG_MORE (send(2)) is in the kernel as any other, but waits there for the next one
without the flag, for TCP_CORK to be cleared (tcp(7)), or for 200 ms.  It is sent all the same if
the process ends in whatever way, but for one: a socket that is closed with input unread sends a
reset and drops what it holds (net/ipv4/tcp.c, __tcp_close).  Sockets of other kinds ignore the
flag.  A send or recv that fails takes the socket's error with it: the next call reports another
one.

Rule.  Reads are those of recv_buffer.pyx.  Written data has reached the kernel when write()
returns, as far as the kernel takes it; the rest waits for the socket to become writable.  A
connection that made n writes in its last callback is expected to do so again: the first n - 1 go
out with MSG_MORE, the nth without.  If a callback ends before that, the loop pushes the held data.

Why.  No written data is left in user space, where an exception, exit, exec, fork or another user
of the socket would lose it, double it or overtake it.  The count is right for servers that write a
header and a body, which then cost one segment; for a single write nothing changes.

Failure prevented.  A handler writes its last answer and calls os._exit().  Bytes that waited for
the end of the callback would be gone; asyncio has sent them.

Cost.  The GIL is held in send and recv, which never block: releasing it costs more than a small
transfer, and no thread can close the socket between the look at its number and the call.  A
bytearray or memoryview that waits is copied, since its owner may change it.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.contextvars cimport PyContext_Exit
from libc.errno cimport EAGAIN, EBADF, EINTR, errno

from aiopoll.loop.core cimport LoopCore
from aiopoll.loop.handles cimport enter_context
from aiopoll.loop.transports.compiled_protocol cimport BufferedSink, CompiledProtocol, source_of
from aiopoll.loop.transports.connection cimport (
    CLOSING, INTRODUCED, LOST, NEW, OPEN, STARTED, Connection,
)
from aiopoll.loop.transports.recv_buffer cimport READ_SIZE, read_buffer, recv_bytes
from aiopoll.loop.transports.write_queue cimport WriteQueue
from aiopoll.reactor.registration cimport GIVEN, OWNED, READ, REARMS_ITSELF, WRITE
from aiopoll.reactor.runnable cimport Runnable

import os

from asyncio.log import logger

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_MORE
        MSG_NOSIGNAL
        SHUT_WR

    ssize_t c_recv "recv"(int fd, void *buffer, size_t length, int flags)
    ssize_t c_send "send"(int fd, const void *buffer, size_t length, int flags)
    int c_shutdown "shutdown"(int fd, int how)

cdef extern from "socket_options.h" nogil:
    bint socket_is_tcp(int fd)
    void socket_push(int fd)

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cdef enum Holding:  # whether the kernel may hold a connection's writes back
    NOT_ASKED = 0  # nor is there a reason, so far
    YES = 1
    NO = 2


cdef Py_ssize_t limit_as_size(object limit) except -1:
    """A limit that is compared with a size, in bytes; programs also set infinity."""
    return PY_SSIZE_T_MAX if limit >= PY_SSIZE_T_MAX else max(<Py_ssize_t>int(limit), 0)


@cython.final
cdef class WriteReady(Runnable):
    """Sends the queue, when the socket is writable again."""

    cdef int run(self) except -1:
        cdef Stream stream = self.stream
        if stream.state >= LOST or not stream.size:
            return 0
        context = enter_context(stream.context)
        try:
            stream.flush()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            stream.fatal_error(error, "Fatal write error on socket transport")
        finally:
            PyContext_Exit(context)
        return 0

    cdef int cancel(self) except -1:
        self.stream.blocked = False
        return 0

    def __repr__(self):
        return f"<{self.stream.transport!r} write>"


@cython.final
@cython.no_gc_clear  # as Connection
cdef class Stream(Connection):
    """The state of a SocketTransport.  As a Runnable it is the reading side."""

    def __repr__(self):
        return f"<{self.transport!r} read for {source_of(self.protocol)}>"

    # Reading

    cdef int run(self) except -1:
        cdef bint hit = False
        cdef Runnable outer = self.loop.running
        if self.started != STARTED:
            return self.call_connection_made() if self.started == NEW else self.start()
        if self.reading is None:
            return 0
        context = enter_context(self.context)
        self.loop.running = self
        try:
            hit = self.read_buffered() if self.buffered else self.read_plain()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fatal_error(error, "Fatal error on socket transport")
        finally:
            self.loop.running = outer
            PyContext_Exit(context)
            if self.reading is not None:
                self.loop.reactor.read_done(self.reading, hit)
        return 0

    cdef int cancel(self) except -1:
        self.reading = None
        return 0

    cdef int yield_to_loop(self) except -1:
        if self.reading is not None:
            self.loop.reactor.read_done(self.reading, False)
        return 0

    cdef int call_connection_made(self) except -1:
        """Introduces the protocol, and reads from then on."""
        cdef Runnable outer = self.loop.running
        self.started = INTRODUCED
        context = enter_context(self.context)
        self.loop.running = self
        try:
            self.protocol.connection_made(self.transport)
        except (SystemExit, KeyboardInterrupt):
            self.loop.ready.push(self)  # the loop may go on
            raise
        except BaseException as error:
            self.report("Exception in callback protocol.connection_made()", error)
        finally:
            self.loop.running = outer
            PyContext_Exit(context)
        return self.start()

    cdef int start(self) except -1:
        """Reads from now on, unless connection_made() has said otherwise."""
        self.started = STARTED
        if self.state == OPEN and not self.paused:
            try:
                self.start_reading()
            except OSError as error:
                self.fatal_error(error, "Fatal read error on socket transport")
        return 0

    cdef int start_reading(self) except -1:
        """Raises OSError: EBADF if the socket was closed."""
        self.reading = self.loop.reactor.register(
            self.fd, READ, self, REARMS_ITSELF | (OWNED if self.sock is None else GIVEN), self.sock)
        return 0

    cdef int stop_reading(self) except -1:
        reading, self.reading = self.reading, None
        if reading is not None and reading.callback(READ) is self:
            self.loop.reactor.unregister(reading, READ)
        return 0

    cdef bint read_plain(self) except -1:
        """One read for a Protocol; whether something came."""
        cdef int code = 0
        if not self.has_number():
            self.on_eof_or_error(-1, EBADF)
            return False
        data = recv_bytes(self.fd, READ_SIZE, 0, &self.pages, &code)
        if not data:
            self.on_eof_or_error(0 if data is not None else -1, code)
            return False
        self.loop.bytes_received += PyBytes_GET_SIZE(data)
        try:
            if self.compiled:
                (<CompiledProtocol>self.protocol).receive(data)
            else:
                self.protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fatal_error(error, "Fatal error: protocol.data_received() call failed.")
        return True

    cdef bint read_buffered(self) except -1:
        """One read for a BufferedProtocol; whether something came."""
        cdef Py_buffer view
        cdef ssize_t count
        cdef int code
        if isinstance(self.protocol, BufferedSink):
            return self.read_memory()
        try:
            buffer = self.protocol.get_buffer(-1)
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fatal_error(error, "Fatal error: protocol.get_buffer() call failed.")
            return False
        # get_buffer() may have closed the connection, or handed it on: asyncio reads all the same.
        try:
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fatal_error(error, "Fatal read error on socket transport")
            return False
        # After all that can run code of the program's.
        count = c_recv(self.fd, view.buf, view.len, 0) if self.has_number() else -1
        code = errno if self.has_number() else EBADF
        PyBuffer_Release(&view)
        if count <= 0:
            self.on_eof_or_error(count, code)
            return False
        self.loop.bytes_received += count
        try:
            self.protocol.buffer_updated(count)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fatal_error(error, "Fatal error: protocol.buffer_updated() call failed.")
        return True

    cdef bint read_memory(self) except -1:
        """One read for a BufferedSink; whether something came."""
        cdef ssize_t count
        if not self.has_number():
            self.on_eof_or_error(-1, EBADF)
            return False
        count = c_recv(self.fd, read_buffer(), READ_SIZE, 0)
        if count <= 0:
            self.on_eof_or_error(count, errno)
            return False
        self.loop.bytes_received += count
        try:
            (<BufferedSink>self.protocol).received(read_buffer(), count)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fatal_error(error, "Fatal error: protocol.buffer_updated() call failed.")
        return True

    cdef int on_eof_or_error(self, ssize_t count, int code) except -1:
        """Deals with a recv(2) that brought nothing."""
        if count < 0:
            if code != EAGAIN and code != EINTR:
                self.fatal_error(OSError(code, os.strerror(code)),
                                 "Fatal read error on socket transport")
            return 0
        if self.loop._debug:
            logger.debug("%r received EOF", self.transport)
        try:
            keep_open = self.protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fatal_error(error, "Fatal error: protocol.eof_received() call failed.")
            return 0
        if keep_open:
            self.stop_reading()
        else:
            self.close()
        return 0

    # Writing

    cdef int append(self, bytes data) except -1:
        if self.queue is None:
            self.queue = WriteQueue.__new__(WriteQueue)
        self.queue.append(data)
        self.size += PyBytes_GET_SIZE(data)
        return 0

    cdef WriteReady write_ready(self):
        """The writing side, made for the first write that waits."""
        if self.flusher is None:
            self.flusher = WriteReady.__new__(WriteReady)
            self.flusher.stream = self
        return self.flusher

    cdef int write(self, object data) except -1:
        """Sends `data`, which is bytes-like and not empty, now or as soon as it can be sent."""
        cdef Py_buffer view
        cdef bytes plain
        cdef ssize_t sent
        if type(data) is bytes:
            plain = <bytes>data
            if self.size or self.blocked:
                self.append(plain)
                return self.pause_protocol()
            sent = self.send(PyBytes_AS_STRING(plain), PyBytes_GET_SIZE(plain))
            if sent == PyBytes_GET_SIZE(plain) or sent < 0:
                return 0
            self.keep_rest(plain, sent)
        elif type(data) is memoryview and not data.c_contiguous:
            return self.write(bytes(data))
        else:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)  # a subclass's own may write
            try:
                if self.size or self.blocked:
                    return self.write(PyBytes_FromStringAndSize(<char *>view.buf, view.len))
                sent = self.send(<char *>view.buf, view.len)
                if sent == view.len or sent < 0:
                    return 0
                self.append(PyBytes_FromStringAndSize(<char *>view.buf + sent, view.len - sent))
            finally:
                PyBuffer_Release(&view)
        self.block()
        return self.pause_protocol()

    cdef int write_pieces(self, list pieces) except -1:
        """write() of bytes objects, in one system call."""
        cdef bytes piece
        for piece in pieces:
            if PyBytes_GET_SIZE(piece):
                self.append(piece)
        if self.blocked:
            return self.pause_protocol()
        return self.flush()

    cdef int send_flags(self) except -1:
        """The flags for the data that is written now."""
        cdef LoopCore loop = self.loop
        if self.callback != <uint32_t>loop.callbacks:
            self.callback = <uint32_t>loop.callbacks
            self.expected = self.written
            self.written = 0
        if self.written < 0xFF:
            self.written += 1
        if self.written >= self.expected or not loop.in_callbacks or self.may_hold == NO:
            self.held = False
            return MSG_NOSIGNAL
        if self.may_hold == NOT_ASKED:
            self.may_hold = YES if loop._gather_writes and socket_is_tcp(self.fd) else NO
            if self.may_hold == NO:
                return MSG_NOSIGNAL
        loop.more_sends += 1
        if not self.held:
            self.held = True
            loop.held.append(self)
        return MSG_NOSIGNAL | MSG_MORE

    cdef int push(self) except -1:
        """Has the kernel send the data it holds back, as the callback ends."""
        if self.held:
            self.held = False
            if self.fd >= 0 and self.has_number():
                self.loop.pushes += 1
                socket_push(self.fd)
        return 0

    cdef ssize_t send(self, const char *data, Py_ssize_t size) except? -1:
        """Sends new data once: the bytes taken; -1 if that ended the connection."""
        cdef ssize_t sent = -1
        cdef int code = EBADF, flags
        if self.has_number():
            flags = self.send_flags()
            sent = c_send(self.fd, data, size, flags)
            code = errno
        if sent >= 0:
            self.loop.bytes_sent += sent
            return sent
        if code == EAGAIN or code == EINTR:
            return 0
        self.fatal_error(OSError(code, os.strerror(code)), "Fatal write error on socket transport")
        return -1

    cdef int keep_rest(self, bytes data, ssize_t sent) except -1:
        """Queues the rest of a write; the queue is empty."""
        self.append(data)
        self.queue.sent = sent
        self.size -= sent
        return 0

    cdef ssize_t send_queue(self) noexcept:
        """Sends queued data once; the bytes that were taken, or -errno."""
        return self.queue.send(self.fd, self.size) if self.has_number() else -EBADF

    cdef int drop_sent(self, Py_ssize_t taken) except -1:
        """Drops from the queue the bytes that the kernel has taken."""
        self.loop.bytes_sent += taken
        self.size -= taken
        return self.queue.drop(taken, self.size)

    cdef int flush(self) except -1:
        """Sends the queue, as far as the socket takes it."""
        cdef ssize_t taken
        while self.size:
            taken = self.send_queue()
            if taken < 0:
                if taken == -EINTR:
                    continue
                if taken == -EAGAIN:
                    break
                return self.send_failed(-taken)
            self.drop_sent(taken)
        if self.size:
            if not self.blocked:
                self.block()
            self.pause_protocol()
            return self.resume_protocol()
        self.unblock()
        return self.drained()

    cdef int send_failed(self, int code) except -1:
        error = OSError(code, os.strerror(code))
        waiter = self.empty_waiter
        self.fatal_error(error, "Fatal write error on socket transport")
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        return 0

    cdef int block(self) except -1:
        """Waits for the socket to take more; ends the connection if that cannot be."""
        cdef WriteReady flusher = self.write_ready()
        try:
            flusher.registration = self.loop.reactor.register(
                self.fd, WRITE, flusher, OWNED if self.sock is None else GIVEN, self.sock)
        except OSError as error:
            return self.fatal_error(error, "Fatal write error on socket transport")
        self.blocked = True
        return 0

    cdef int unblock(self) except -1:
        if self.blocked:
            self.blocked = False
            if self.flusher.registration.callback(WRITE) is self.flusher:
                self.loop.reactor.unregister(self.flusher.registration, WRITE)
            self.flusher.registration = None
        return 0

    cdef int drained(self) except -1:
        """Everything has been sent: resumes the protocol, or ends the connection."""
        if self.draining:
            return 0  # the protocol has written in resume_writing()
        self.draining = True
        try:
            self.resume_protocol()
        finally:
            self.draining = False
        if self.size or self.state >= LOST:
            return 0
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)
        if self.state == CLOSING:
            self.enter(LOST)
            try:
                self.connection_lost(None)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.report("Exception in callback protocol.connection_lost()", error)
        elif self.eof and self.has_number():
            c_shutdown(self.fd, SHUT_WR)
        return 0

    cdef int pause_protocol(self) except -1:
        if self.size <= self.high or self.protocol_paused:
            return 0
        self.protocol_paused = True
        try:
            self.protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report("protocol.pause_writing() failed", error)
        return 0

    cdef int resume_protocol(self) except -1:
        if not self.protocol_paused or self.size > self.low or self.state >= LOST:
            return 0
        self.protocol_paused = False
        try:
            self.protocol.resume_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report("protocol.resume_writing() failed", error)
        return 0

    # For Connection

    cdef bint finish_io(self) except -1:
        self.stop_reading()
        return self.size == 0

    cdef int drop_queue(self) except -1:
        self.queue = None
        return 0

    cdef int stop_io(self) except -1:
        self.drop_queue()
        self.size = 0
        self.unblock()
        return self.stop_reading()

    cdef Registration registration_of(self):
        """The registration of this connection; None if it waits for nothing."""
        return self.flusher.registration if self.reading is None and self.blocked else self.reading
