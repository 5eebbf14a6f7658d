# cython: auto_pickle=False
"""StreamReader, StreamWriter and their protocol, compiled.

Facts.  Each method of asyncio's reader is a coroutine: a frame, and for drain() a second one.

Rule.  Each class stands on a compiled one before asyncio's own class, and compiles only what runs
for every message; the rest is asyncio's code, on the same attributes (core.pyx).  read() and its
kin return a compiled coroutine (coroutine.pyx).  A subclass has asyncio's methods, so that what it
overrides is called where asyncio calls it.

Why.  Neither a frame nor a future where the data is there.

Cost.  inspect.iscoroutine() is false of what read() returns, as of each compiled coroutine; it is
a collections.abc.Coroutine, which is what asyncio asks for.
"""

from aiopoll.loop.streams.core cimport (
    StreamProtocolCore, StreamReaderCore, StreamWriterCore, is_plain_reader, set_reader_type,
)
from aiopoll.loop.streams.coroutine cimport (
    NEXT_LINE, READ, READ_ALL, READ_EXACTLY, READ_LINE, READ_UNTIL, new_drain, new_read,
)
from aiopoll.loop.transports.socket_transport cimport stream_behind, write_to
from aiopoll.loop.transports.stream cimport Stream

import asyncio
import sys

from aiopoll.loop.streams.by_name import PROTOCOL, READER, WRITER
from aiopoll.loop.streams.coroutine import mark_coroutine_functions
from asyncio import streams as asyncio_streams

cdef extern from "Python.h":
    Py_ssize_t clamped_index "PyNumber_AsSsize_t"(object number, void *overflow) except? -1

# Not by asyncio's names, which a test may have patched when the first stream is made.
cdef object BaseReader = READER.asyncios
cdef object BaseWriter = WRITER.asyncios
cdef object BaseProtocol = PROTOCOL.asyncios
# Python 3.13: readuntil takes a tuple of separators.
cdef bint TUPLES = sys.version_info >= (3, 13)
# Python 3.11: the protocol of a server keeps the writer alive.
cdef bint KEEPS_WRITER = hasattr(BaseProtocol, "_replace_writer")
# Newer ones: what client_connected_cb raises at once ends the connection, as what its task raises.
cdef bint ENDS_BY_ERROR = "Exception" in BaseProtocol.connection_made.__code__.co_names

# StreamReaderProtocol, for comparisons.
cdef type protocol_type


cdef int end_by_error(object loop, object transport, object error) except -1:
    """Reports what client_connected_cb has raised, and closes the connection."""
    loop.call_exception_handler({
        "message": "Unhandled exception in client_connected_cb",
        "exception": error,
        "transport": transport,
    })
    transport.close()
    return 0


cdef class ReaderMethods(StreamReaderCore):
    """The methods that StreamReader puts before asyncio's."""

    def feed_data(self, data):
        """Takes what has arrived; AssertionError after feed_eof()."""
        if is_plain_reader(self):
            self.feed(data)
        else:
            BaseReader.feed_data(self, data)

    def at_eof(self):
        """Whether the end was fed and all data is read."""
        return self._eof and not self.buffer.size()

    def exception(self):
        """The exception given to set_exception(), or None."""
        return self._exception

    def _maybe_resume_transport(self):
        self.resume()

    def read(self, n=-1):
        """Up to `n` bytes, as soon as there are some; all until the end where `n` is negative.

        Returns b"" at the end.
        """
        cdef Py_ssize_t count
        if not is_plain_reader(self):
            return BaseReader.read(self, n)
        count = clamped_index(n, NULL)
        return new_read(self, READ_ALL if count < 0 else READ, count, None)

    def readexactly(self, n):
        """Exactly `n` bytes.

        Raises IncompleteReadError, with what there is as `partial`, if the end comes before them;
        ValueError for a negative `n`.
        """
        if not is_plain_reader(self):
            return BaseReader.readexactly(self, n)
        return new_read(self, READ_EXACTLY, clamped_index(n, NULL), None)

    def readline(self):
        """The data up to and with the next newline, or up to the end.

        Raises ValueError, and drops the line, if it is longer than the limit.
        """
        if not is_plain_reader(self):
            return BaseReader.readline(self)
        return new_read(self, READ_LINE, 0, b"\n")

    def readuntil(self, separator=b"\n"):
        """The data up to and with `separator`; from Python 3.13 on also a tuple of separators.

        Raises IncompleteReadError if the end comes first; LimitOverrunError, leaving the data
        where it is, if what precedes the separator is longer than the limit; ValueError for an
        empty separator.
        """
        if is_plain_reader(self):
            if type(separator) is bytes:
                return new_read(self, READ_UNTIL, 0, separator)
            if TUPLES and type(separator) is tuple and all(type(s) is bytes for s in separator):
                return new_read(self, READ_UNTIL, 0, sorted(separator, key=len))
        return BaseReader.readuntil(self, separator)

    def __anext__(self):
        if not is_plain_reader(self):
            return BaseReader.__anext__(self)
        return new_read(self, NEXT_LINE, 0, b"\n")


cdef class ProtocolMethods(StreamProtocolCore):
    """The methods that StreamReaderProtocol puts before asyncio's."""

    def data_received(self, data):
        """Gives the data to the reader, if the program still has that."""
        self.feed_reader(data)

    cdef bint is_compiled(self) noexcept:
        return type(self) is protocol_type

    cdef int receive(self, bytes data) except -1:
        return self.feed_reader(data)

    cdef int feed_reader(self, object data) except -1:
        if self._stream_reader_wr is None:
            return 0
        reader = self._stream_reader_wr()
        if is_plain_reader(reader):
            (<StreamReaderCore>reader).feed(data)
        elif reader is not None:
            reader.feed_data(data)
        return 0

    def connection_made(self, transport):
        """Begins: a server's protocol calls the program with a reader and a writer."""
        if self._reject_connection or self._client_connected_cb is None:
            BaseProtocol.connection_made(self, transport)
            return
        self._transport = transport
        reader = self._stream_reader
        if reader is not None:
            reader.set_transport(transport)
        self._over_ssl = transport.get_extra_info("sslcontext") is not None
        # Looked up as asyncio does: what a program has put in its place is made.
        kind = asyncio_streams.StreamWriter
        if kind is BaseWriter and WRITER.is_unchanged():
            kind = StreamWriter
        writer = kind(transport, self, reader, self._loop)
        if KEEPS_WRITER:
            self._stream_writer = writer
        try:
            answer = self._client_connected_cb(reader, writer)
        except Exception as error:
            if not ENDS_BY_ERROR:
                raise
            end_by_error(self._loop, transport, error)
            answer = None
        if asyncio.iscoroutine(answer):
            loop = self._loop

            def ended(task):
                if task.cancelled():
                    transport.close()
                    return
                error = task.exception()
                if error is not None:
                    end_by_error(loop, transport, error)

            self._task = loop.create_task(answer)
            self._task.add_done_callback(ended)
        self._strong_reader = None


cdef class WriterMethods(StreamWriterCore):
    """The methods that StreamWriter puts before asyncio's."""

    def write(self, data):
        """Sends `data`, or keeps what cannot be sent now until it can."""
        cdef Stream stream = stream_behind(self._transport)
        if stream is not None:
            write_to(stream, data)
        else:
            self._transport.write(data)

    def drain(self):
        """Waits until the transport has room for more.

        Raises the reader's exception, ConnectionResetError once the connection is lost.
        """
        if type(self._protocol) is not protocol_type:
            return BaseWriter.drain(self)
        return new_drain(self, self._protocol)


class StreamReader(ReaderMethods, BaseReader):
    """asyncio.StreamReader, compiled.

    limit: the longest line, in bytes; reading pauses at twice as much.  ValueError unless it is
        positive.
    """


class StreamWriter(WriterMethods, BaseWriter):
    """asyncio.StreamWriter, compiled."""


class StreamReaderProtocol(ProtocolMethods, BaseProtocol):
    """asyncio.StreamReaderProtocol, compiled: what stands between a transport and a reader."""


set_reader_type(StreamReader)
protocol_type = StreamReaderProtocol
mark_coroutine_functions(ReaderMethods.read, ReaderMethods.readexactly, ReaderMethods.readline,
                         ReaderMethods.readuntil, WriterMethods.drain)
