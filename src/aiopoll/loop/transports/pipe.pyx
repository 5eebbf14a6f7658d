"""Pipes: what is ready is read, and what can be written at once is.

Facts.  O_NONBLOCK belongs to the open file, which a pipe on stdin or stdout shares with other
processes: any of them may take it away.  With RWF_NOWAIT preadv2(2) and pwritev2(2) do not block
whatever it says; terminals return EOPNOTSUPP.  The pipe is an object of the program, which may
close it at any time, in any thread; a subprocess's is in its Popen.

Rule.  The object is asked for its number before each call, and the GIL is not let go of in
between: the call is one with RWF_NOWAIT, or, where there is none, one without the GIL on a
duplicate made for it.  A pipe that has lost its number is EBADF, which ends the transport.  Flow
control and the order of the protocol's calls are asyncio's.

Why.  A duplicate for longer would keep the peer from seeing the owner's close().  A read that
blocks after all stops the loop, as it does asyncio's, but no other thread.

Failure prevented.  A program closes the Popen.stdout that a transport reads, and opens a file,
which gets the number: os.read() of the number would take the file's data for the child's output.

Cost.  A call of fileno() for each read and write; for a terminal two system calls more.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EBADF, EINTR, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, errno
from posix.fcntl cimport F_GETFL, F_SETFL, O_NONBLOCK, fcntl
from posix.stat cimport S_ISCHR, S_ISFIFO, S_ISSOCK, fstat, struct_stat
from posix.unistd cimport close, read, write

from aiopoll.loop.core cimport LoopCore
from aiopoll.loop.transports.fd_reader cimport FdReader
from aiopoll.reactor.descriptor cimport has_number

import os

from asyncio import constants, futures, transports, unix_events
from asyncio.log import logger

from aiopoll.reactor.descriptor import Descriptor

cdef extern from "<fcntl.h>" nogil:
    enum:
        F_DUPFD_CLOEXEC

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "vector_io.h" nogil:
    enum:
        FILE_RWF_NOWAIT

    ssize_t file_preadv2(int fd, const iovec *vector, int nr, long long offset, int rw_flags)
    ssize_t file_pwritev2(int fd, const iovec *vector, int nr, long long offset, int rw_flags)

cdef enum:
    READ_SIZE = 64 * 1024


cdef object failure(int code):
    return OSError(code, os.strerror(code))


cdef int count_sent(object loop, ssize_t written) except -1:
    if isinstance(loop, LoopCore):
        (<LoopCore>loop).bytes_sent += written
    return 0


@cython.final
cdef class PipeEnd:
    """A pipe of its owner's, and the system calls on it.  Raises what fileno() does, OSError."""

    cdef object pipe
    cdef int fd
    cdef bint is_pollable  # ready for reading says something of the other end
    cdef bint takes_nowait

    def __cinit__(self, pipe):
        cdef struct_stat status
        cdef int flags
        self.pipe = pipe
        self.takes_nowait = True
        self.fd = pipe.fileno()
        # In one go, while the number is the pipe's.
        if fstat(self.fd, &status) < 0:
            raise failure(errno)
        self.is_pollable = S_ISFIFO(status.st_mode) or S_ISSOCK(status.st_mode)
        if not self.is_pollable and not S_ISCHR(status.st_mode):
            raise ValueError("Pipe transport is only for pipes, sockets and character devices")
        flags = fcntl(self.fd, F_GETFL)
        if flags < 0 or fcntl(self.fd, F_SETFL, flags | O_NONBLOCK) < 0:
            raise failure(errno)

    cdef object descriptor(self):
        return Descriptor(self.fd, self.pipe)

    cdef ssize_t transfer(self, void *data, size_t length, bint writing) except? -1:
        """One read or write: the bytes that it took, or -errno."""
        cdef iovec vector
        cdef ssize_t count
        cdef int own, code
        if not has_number(self.pipe, self.fd):
            return -EBADF
        if self.takes_nowait:
            vector.iov_base = data
            vector.iov_len = length
            if writing:
                count = file_pwritev2(self.fd, &vector, 1, -1, FILE_RWF_NOWAIT)
            else:
                count = file_preadv2(self.fd, &vector, 1, -1, FILE_RWF_NOWAIT)
            if count >= 0:
                return count
            code = errno
            if code not in (EOPNOTSUPP, ENOSYS, EPERM, EINVAL):
                return -code
            self.takes_nowait = False
        own = fcntl(self.fd, F_DUPFD_CLOEXEC, 0)
        if own < 0:
            return -errno
        try:
            while True:
                with nogil:
                    count = write(own, data, length) if writing else read(own, data, length)
                    code = errno
                if count >= 0:
                    return count
                if code != EINTR:
                    return -code
                PyErr_CheckSignals()
        finally:
            with nogil:
                close(own)

    cdef ssize_t send(self, object data) except -1:
        """Writes from a buffer: the bytes that the pipe took.  Raises OSError; BufferError."""
        cdef Py_buffer view
        cdef ssize_t count
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            count = self.transfer(view.buf, view.len, True)
        finally:
            PyBuffer_Release(&view)
        if count == -EAGAIN or count == -EINTR:
            return 0
        if count < 0:
            raise failure(-count)
        return count


@cython.final
cdef class PipeReader(FdReader):
    cdef PipeEnd end

    cdef bint read(self) except -1:
        cdef char *room
        cdef ssize_t count
        data = PyBytes_FromStringAndSize(NULL, READ_SIZE)
        room = PyBytes_AS_STRING(data)
        count = self.end.transfer(room, READ_SIZE, False)
        if count == 0:
            self.transport._ended()
        elif count > 0:
            self.loop.bytes_received += count
            data = PyBytes_FromStringAndSize(room, count)
            try:
                self.transport._protocol.data_received(data)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.report("data_received", error)
            return True
        elif count != -EAGAIN and count != -EINTR:
            self.transport._fatal_error(failure(-count), "Fatal read error on pipe transport")
        return False


class ReadPipeTransport(unix_events._UnixReadPipeTransport):
    """The transport of the reading end of a pipe, of a socket or a character device."""

    _pipe = None
    _reader = None

    def __init__(self, loop, pipe, protocol, waiter=None, extra=None):
        cdef PipeReader reader = PipeReader.__new__(PipeReader)
        reader.end = PipeEnd.__new__(PipeEnd, pipe)
        transports.ReadTransport.__init__(self, extra)
        self._extra["pipe"] = pipe
        self._loop = loop
        self._pipe = pipe
        self._fileno = reader.end.descriptor()
        self._protocol = protocol
        self._closing = False
        self._paused = False
        self._reader = reader
        loop.call_soon(protocol.connection_made, self)
        # Not before connection_made() has been called.
        loop.call_soon(self._add_reader, self._fileno, self._read_ready)
        if waiter is not None:
            loop.call_soon(futures._set_result_unless_cancelled, waiter, None)

    def is_reading(self):
        # Python 3.11.2, which Debian 12 has, lacks it.
        return not self._paused and not self._closing

    def _add_reader(self, fd, callback):
        if not self.is_reading():
            return
        (<PipeReader>self._reader).start(self, fd, self._pipe)

    def _read_ready(self):
        (<PipeReader>self._reader).read()

    def _ended(self):
        """The other end was closed."""
        if self._loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._closing = True
        self._loop._remove_reader(self._fileno)
        self._loop.call_soon(self._protocol.eof_received)
        self._loop.call_soon(self._call_connection_lost, None)

    def resume_reading(self):
        """Undoes pause_reading(); without one it does nothing."""
        if self._closing or not self._paused:
            return
        self._paused = False
        self._add_reader(self._fileno, self._read_ready)
        if self._loop.get_debug():
            logger.debug("%r resumes reading", self)

    def _call_connection_lost(self, exc):
        if self._loop is None:
            return  # a close() after an error calls for it again
        try:
            super()._call_connection_lost(exc)
        finally:
            self._reader = None  # which holds the transport


class WritePipeTransport(unix_events._UnixWritePipeTransport):
    """The transport of the writing end of a pipe, of a socket or a character device."""

    _pipe = None

    def __init__(self, loop, pipe, protocol, waiter=None, extra=None):
        cdef PipeEnd end = PipeEnd.__new__(PipeEnd, pipe)
        transports._FlowControlMixin.__init__(self, extra, loop)
        self._extra["pipe"] = pipe
        self._pipe = pipe
        self._fileno = end.descriptor()
        self._protocol = protocol
        self._buffer = bytearray()
        self._conn_lost = 0
        self._closing = False
        self._end = end
        loop.call_soon(protocol.connection_made, self)
        if end.is_pollable:
            # It becomes readable when the other end is closed.
            loop.call_soon(loop._add_reader, self._fileno, self._read_ready)
        if waiter is not None:
            loop.call_soon(futures._set_result_unless_cancelled, waiter, None)

    def write(self, data):
        """Writes `data`, or keeps what cannot be written now until it can."""
        cdef ssize_t written = 0
        assert isinstance(data, (bytes, bytearray, memoryview)), repr(data)
        if not data:
            return
        if type(data) is not bytes and type(data) is not memoryview:
            data = memoryview(data)  # before the look at what waits: a subclass's own may write
        if self._conn_lost or self._closing:
            if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
                logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
            self._conn_lost += 1
            return
        if not self._buffer:
            try:
                written = (<PipeEnd>self._end).send(data)
                count_sent(self._loop, written)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._conn_lost += 1
                self._fatal_error(error, "Fatal write error on pipe transport")
                return
            if isinstance(data, memoryview):
                data = data.cast("B")
            if written == len(data):
                return
            self._loop._add_writer(self._fileno, self._write_ready)
        self._buffer += memoryview(data)[written:] if written else data
        self._maybe_pause_protocol()

    def abort(self):
        """Closes the pipe at once; once it is closed nothing happens."""
        if self._loop is not None:
            super().abort()

    def _call_connection_lost(self, exc):
        if self._loop is not None:  # an abort() after an error calls for it again
            super()._call_connection_lost(exc)

    def _write_ready(self):
        cdef ssize_t written
        assert self._buffer, "Data should not be empty"
        try:
            written = (<PipeEnd>self._end).send(self._buffer)
            count_sent(self._loop, written)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._buffer.clear()
            self._conn_lost += 1
            # _fatal_error() leaves it, for there is nothing to write any more.
            self._loop._remove_writer(self._fileno)
            self._fatal_error(error, "Fatal write error on pipe transport")
            return
        del self._buffer[:written]
        if not self._buffer:
            self._loop._remove_writer(self._fileno)
            self._maybe_resume_protocol()  # which may write
            if self._closing:
                self._loop._remove_reader(self._fileno)
                self._call_connection_lost(None)
