"""Pipes: what is ready is read, and what can be written at once is.

Facts.  O_NONBLOCK belongs to the open file, which a pipe on stdin or stdout shares with other
processes: any of them may take it away.  A pipe holds 64 KiB unless it was told otherwise.

Rule.  A pipe is read when poll(2) says that it is ready, never on trial, and the GIL is released in
read and write.  Only what one write(2) takes whole is written here: all else, the end and errors
are asyncio's.

Why.  A read that blocks after all then stops the loop, as it does asyncio's, but no other thread.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, errno
from posix.unistd cimport read, write

from aiopoll._core.reader cimport Reader

from asyncio import unix_events
from asyncio.log import logger

cdef enum:
    READ_SIZE = 64 * 1024


@cython.final
cdef class PipeReader(Reader):
    cdef bint read(self) except -1:
        cdef char *room
        cdef ssize_t count
        cdef int code
        data = PyBytes_FromStringAndSize(NULL, READ_SIZE)
        room = PyBytes_AS_STRING(data)
        with nogil:
            count = read(self.fd, room, READ_SIZE)
            code = errno
        if count > 0:
            data = PyBytes_FromStringAndSize(room, count)
            try:
                self.transport._protocol.data_received(data)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.report("data_received", error)
            return True
        if count == 0 or code != EAGAIN and code != EINTR:
            self.transport._read_ready()  # meets the same
        return False


class ReadPipeTransport(unix_events._UnixReadPipeTransport):
    """The transport of the reading end of a pipe, of a socket or a character device."""

    _reader = None

    def _add_reader(self, fd, callback):
        if not self.is_reading():
            return
        if self._reader is None:
            self._reader = PipeReader.__new__(PipeReader)
        (<PipeReader>self._reader).start(self, fd, self._pipe)

    def resume_reading(self):
        """Undoes pause_reading(); without one it does nothing."""
        if self._closing or not self._paused:
            return
        self._paused = False
        self._add_reader(self._fileno, self._read_ready)
        if self._loop.get_debug():
            logger.debug("%r resumes reading", self)

    def _call_connection_lost(self, exc):
        try:
            super()._call_connection_lost(exc)
        finally:
            self._reader = None  # which holds the transport


class WritePipeTransport(unix_events._UnixWritePipeTransport):
    """The transport of the writing end of a pipe, of a socket or a character device."""

    def write(self, data):
        """Writes `data`, or keeps what cannot be written now until it can."""
        cdef ssize_t written
        if (self._buffer or self._conn_lost or self._closing or not data
                or not (type(data) is bytes or type(data) is bytearray)):
            super().write(data)
            return
        written = write_now(self._fileno, data)
        if written < len(data):
            super().write(memoryview(data)[max(written, 0):])


cdef ssize_t write_now(int fd, object data) except? -2:
    """One write(2): the bytes that it took, or -1."""
    cdef Py_buffer view
    cdef ssize_t written
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    with nogil:
        written = write(fd, view.buf, view.len)
    PyBuffer_Release(&view)
    return written
