# cython: auto_pickle=False
"""StreamReader, StreamWriter and their protocol, compiled.

Facts.  Each method of asyncio's reader is a coroutine: a frame, and for drain() a second one.
Programs and libraries use asyncio's private names: they read, clear and keep `_buffer`, set
`_limit`, and set `_transport` after start_tls.  An await calls tp_iternext, and takes the result
that comes with NULL from StopIteration, or None where no exception is set.

Rule.  Each class here stands on a compiled core before asyncio's own class, and compiles only what
runs for every message; the rest is asyncio's code, on the same attributes.  read() and its like
answer an object that does nothing until it is awaited, as a coroutine; a StopIteration is raised
without a traceback.  A subclass has asyncio's methods, so that what it overrides is called where
asyncio calls it.

Why.  Neither a frame nor a future where the data is there.

Cost.  inspect.iscoroutine() is false of what read() answers, as of each compiled coroutine; it is a
collections.abc.Coroutine, which is what asyncio asks for.
Unlike in asyncio, a read that wakes does not forget another read that began to wait meanwhile.
"""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE

from aiopoll.loop.core cimport future_for
from aiopoll.loop.streams.buffer cimport StreamBuffer
from aiopoll.loop.streams.coroutine cimport CompiledCoroutine
from aiopoll.loop.transports.compiled_protocol cimport DataReceiver
from aiopoll.loop.transports.socket_transport cimport stream_behind, write_to
from aiopoll.loop.transports.stream cimport Stream, limit_as_size

import asyncio
import sys
import warnings

from asyncio import format_helpers, streams

from aiopoll.loop.streams.coroutine import mark_coroutine_functions

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    Py_ssize_t clamped_index "PyNumber_AsSsize_t"(object number, void *overflow) except? -1
    void set_stop_iteration "PyErr_SetObject"(object type, object value) noexcept

DEFAULT_LIMIT = streams._DEFAULT_LIMIT

cdef object Future = asyncio.Future
cdef object BaseReader = asyncio.StreamReader
cdef object BaseWriter = asyncio.StreamWriter
cdef object BaseProtocol = asyncio.StreamReaderProtocol
cdef object create_future_of_asyncio = asyncio.BaseEventLoop.create_future
# Called with their future, they are not looked up for each.
cdef object result_of = Future.result
cdef object set_result_of = Future.set_result
# Python 3.13: readuntil takes a tuple of separators.
cdef bint TUPLES = sys.version_info >= (3, 13)
# Python 3.11: the protocol of a server keeps the writer alive.
cdef bint KEEPS_WRITER = hasattr(asyncio.StreamReaderProtocol, "_replace_writer")

# The classes at the end of this module, for comparisons.
cdef type reader_type
cdef type protocol_type

cdef enum State:
    NEW
    WAITING
    YIELDED  # drain() lets the loop run once
    DONE

cdef enum Operation:
    READ
    READ_ALL
    READ_EXACTLY
    READ_UNTIL
    READ_LINE
    NEXT_LINE
    DRAIN


cdef class ReaderCore:
    """What StreamReader puts before asyncio's own class."""

    cdef public object _loop
    cdef public object _waiter
    cdef public object _exception
    cdef public object _transport
    cdef public bint _eof
    cdef public bint _paused
    cdef object limit
    cdef Py_ssize_t limit_low  # reading goes on
    cdef Py_ssize_t limit_high  # reading pauses
    cdef StreamBuffer buffer
    cdef bint plain_futures

    def __cinit__(self, *args, **options):
        self.buffer = StreamBuffer.__new__(StreamBuffer)

    def __init__(self, limit=DEFAULT_LIMIT, loop=None):
        if limit <= 0:
            raise ValueError("Limit cannot be <= 0")
        self._limit = limit
        self._loop = asyncio.get_event_loop() if loop is None else loop
        create_future = getattr(self._loop, "create_future", None)
        self.plain_futures = getattr(create_future, "__func__", None) is create_future_of_asyncio
        if self._loop.get_debug():
            self._source_traceback = format_helpers.extract_stack(sys._getframe(0))

    def __repr__(self):
        cdef Py_ssize_t size = self.buffer.size()
        parts = ["StreamReader"]
        if size:
            parts.append(f"{size} bytes")
        if self._eof:
            parts.append("eof")
        if self.limit != DEFAULT_LIMIT:
            parts.append(f"limit={self.limit}")
        if self._waiter:
            parts.append(f"waiter={self._waiter!r}")
        if self._exception:
            parts.append(f"exception={self._exception!r}")
        if self._transport:
            parts.append(f"transport={self._transport!r}")
        if self._paused:
            parts.append("paused")
        return f"<{' '.join(parts)}>"

    @property
    def _limit(self):
        return self.limit

    @_limit.setter
    def _limit(self, limit):
        self.limit_low = limit_as_size(limit)
        self.limit_high = limit_as_size(2 * limit)
        self.limit = limit

    @property
    def _buffer(self):
        return self.buffer.show()

    @_buffer.setter
    def _buffer(self, buffer):
        self.buffer.replace(buffer)

    cdef int feed(self, object data) except -1:
        if self._eof:
            raise AssertionError("feed_data after feed_eof")
        if not data:
            return 0
        self.buffer.add(data)
        self.wake()
        if not self._paused and self.buffer.size() > self.limit_high and self._transport is not None:
            self.pause()
        return 0

    cdef int wake(self) except -1:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            try:
                if type(waiter) is Future:
                    set_result_of(waiter, None)
                else:
                    waiter.set_result(None)
            except asyncio.InvalidStateError:
                if not waiter.cancelled():
                    raise
        return 0

    cdef int pause(self) except -1:
        try:
            self._transport.pause_reading()
        except NotImplementedError:
            self._transport = None  # all data has to be kept, and nobody is asked again
        else:
            self._paused = True
        return 0

    cdef inline int resume(self) except -1:
        if self._paused and self.buffer.size() <= self.limit_low:
            self._paused = False
            self._transport.resume_reading()
        return 0

    cdef inline object new_future(self):
        return Future(loop=self._loop) if self.plain_futures else future_for(self._loop)

    # For the protocol

    def feed_data(self, data):
        """Takes what has arrived; AssertionError after feed_eof()."""
        if type(self) is reader_type:
            self.feed(data)
        else:
            BaseReader.feed_data(self, data)

    def at_eof(self):
        """Whether the end was fed and all data is read."""
        return self._eof and not self.buffer.size()

    def exception(self):
        """What set_exception() was given, or None."""
        return self._exception

    def _maybe_resume_transport(self):
        self.resume()

    # For the program

    cdef Awaiting reading(self, Operation operation, Py_ssize_t count, object separators):
        cdef Awaiting reading = Awaiting.__new__(Awaiting)
        reading.reader = self
        reading.operation = operation
        reading.count = count
        reading.separators = separators
        return reading

    def read(self, n=-1):
        """Up to `n` bytes, as soon as there are some; all until the end where `n` is negative.

        Answers b"" at the end.
        """
        cdef Py_ssize_t count
        if type(self) is not reader_type:
            return BaseReader.read(self, n)
        count = clamped_index(n, NULL)
        return self.reading(READ_ALL if count < 0 else READ, count, None)

    def readexactly(self, n):
        """Exactly `n` bytes.

        Raises IncompleteReadError, with what there is as `partial`, if the end comes before them;
        ValueError for a negative `n`.
        """
        if type(self) is not reader_type:
            return BaseReader.readexactly(self, n)
        return self.reading(READ_EXACTLY, clamped_index(n, NULL), None)

    def readline(self):
        """The data up to and with the next newline, or up to the end.

        Raises ValueError, and drops the line, if it is longer than the limit.
        """
        if type(self) is not reader_type:
            return BaseReader.readline(self)
        return self.reading(READ_LINE, 0, b"\n")

    def readuntil(self, separator=b"\n"):
        """The data up to and with `separator`; from Python 3.13 on also a tuple of separators.

        Raises IncompleteReadError if the end comes first; LimitOverrunError, leaving the data
        where it is, if what precedes the separator is longer than the limit; ValueError for an
        empty separator.
        """
        if type(self) is reader_type:
            if type(separator) is bytes:
                return self.reading(READ_UNTIL, 0, separator)
            if TUPLES and type(separator) is tuple and all(type(s) is bytes for s in separator):
                return self.reading(READ_UNTIL, 0, sorted(separator, key=len))
        return BaseReader.readuntil(self, separator)

    def __anext__(self):
        if type(self) is not reader_type:
            return BaseReader.__anext__(self)
        return self.reading(NEXT_LINE, 0, b"\n")


cdef tuple FUNCTIONS = (
    BaseReader.read, BaseReader.read, BaseReader.readexactly, BaseReader.readuntil,
    BaseReader.readline, BaseReader.__anext__, BaseWriter.drain,
)


cdef int warn_of_no_await(Operation operation) except -1:
    warnings.warn(f"coroutine '{FUNCTIONS[operation].__qualname__}' was never awaited",
                  RuntimeWarning, stacklevel=1)
    return 0


cdef object reuse_error():
    return RuntimeError("cannot reuse already awaited coroutine")


cdef object refuse(object error):
    raise error


@cython.final
cdef class Awaiting(CompiledCoroutine):
    """What a method answers: a collections.abc.Coroutine, started by the first send()."""

    cdef State state
    cdef Operation operation
    cdef object waiter
    cdef ReaderCore reader  # None for drain()
    cdef WriterCore writer
    cdef ProtocolCore protocol
    cdef Py_ssize_t count  # bytes wanted
    cdef object separators  # bytes, or a list of them from short to long
    cdef Py_ssize_t searched  # no separator begins before
    cdef list blocks

    def __dealloc__(self):
        if self.state == NEW:
            warn_of_no_await(self.operation)
        elif self.state == WAITING:
            self.stop()

    def __repr__(self):
        return f"<coroutine {self.__qualname__} at {<size_t><void *>self:#x}>"

    def __next__(self):
        value = self.resumed()
        if self.state != DONE:
            return value
        self.release()
        if value is not None:
            set_stop_iteration(StopIteration, value)
        raise StopIteration

    def send(self, value):
        """Starts it, or goes on; as of a coroutine."""
        if value is not None and self.state == NEW:
            raise TypeError("can't send non-None value to a just-started coroutine")
        value = self.resumed()
        if self.state == DONE:
            self.release()
            raise StopIteration(value)
        return value

    def throw(self, typ, val=None, tb=None):
        """Raises an exception where it waits; as of a coroutine."""
        if self.state == DONE:
            raise reuse_error()
        if val is None:
            val = typ if isinstance(typ, BaseException) else typ()
        elif not isinstance(val, BaseException):
            val = typ(val)
        if tb is not None:
            val = val.with_traceback(tb)
        waiting = self.state == WAITING
        self.stop()
        raise StopIteration(self.failed(val) if waiting else refuse(val))

    def close(self):
        """Ends it where it waits; as of a coroutine."""
        self.stop()

    cdef object function(self):
        return FUNCTIONS[self.operation]

    cdef object awaited(self):
        return self.waiter if self.state == WAITING else None

    cdef bint is_suspended(self) noexcept:
        return self.state == WAITING or self.state == YIELDED

    cdef bint has_ended(self) noexcept:
        return self.state == DONE

    cdef object resumed(self):
        """Goes on: answers what to wait for, or in the state DONE the result."""
        cdef State state = self.state
        if state == DONE:
            raise reuse_error()
        self.state = DONE
        if state == WAITING:
            try:
                self.waited()
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                return self.failed(error)
        if self.operation == READ:
            return self.read(state == NEW)
        if self.operation == DRAIN:
            return self.drain(state)
        if self.operation == READ_EXACTLY:
            return self.read_exactly(state == NEW)
        if self.operation == READ_ALL:
            return self.read_all(state == NEW)
        return self.read_until(state == NEW)

    cdef int release(self) except -1:
        """Forgets what it worked on: a task keeps its coroutine."""
        self.reader = None
        self.writer = None
        self.protocol = None
        self.blocks = None
        return 0

    cdef object wait(self, object waiter):
        self.waiter = waiter
        self.state = WAITING
        waiter._asyncio_future_blocking = True
        return waiter

    cdef int waited(self) except -1:
        """The waiter is done: raises its exception, if it has one."""
        waiter = self.waiter
        self.forget_waiter()
        if type(waiter) is Future:
            result_of(waiter)
        else:
            waiter.result()
        return 0

    cdef int forget_waiter(self) except -1:
        waiter, self.waiter = self.waiter, None
        if self.operation == DRAIN:
            if self.protocol is not None and waiter is not None:
                self.protocol._drain_waiters.remove(waiter)
        elif self.reader is not None and self.reader._waiter is waiter:
            self.reader._waiter = None
        return 0

    cdef int stop(self) except -1:
        waiting = self.state == WAITING
        self.state = DONE
        if waiting:
            self.forget_waiter()
        return 0

    cdef object wait_for_data(self):
        cdef ReaderCore reader = self.reader
        if reader._waiter is not None:
            name = FUNCTIONS[min(<int>self.operation, <int>READ_UNTIL)].__name__
            raise RuntimeError(f"{name}() called while another coroutine is already waiting for "
                               "incoming data")
        if reader._paused:
            reader._paused = False
            reader._transport.resume_reading()
        waiter = reader.new_future()
        reader._waiter = waiter
        return self.wait(waiter)

    cdef object read(self, bint fresh):
        cdef ReaderCore reader = self.reader
        if fresh:
            if reader._exception is not None:
                raise reader._exception
            if self.count == 0:
                return b""
            if not reader._eof and not reader.buffer.size():
                return self.wait_for_data()
        data = reader.buffer.take(self.count)
        reader.resume()
        return data

    cdef object read_all(self, bint fresh):
        cdef ReaderCore reader = self.reader
        cdef bytes block
        if fresh:
            self.blocks = []
        while True:
            if fresh:
                if reader._exception is not None:
                    raise reader._exception
                self.count = reader.limit_low
                if not reader._eof and not reader.buffer.size():
                    return self.wait_for_data()
            fresh = True
            block = reader.buffer.take(self.count)
            reader.resume()
            if not block:
                return b"".join(self.blocks)
            self.blocks.append(block)

    cdef object read_exactly(self, bint fresh):
        cdef ReaderCore reader = self.reader
        if fresh:
            if self.count < 0:
                raise ValueError("readexactly size can not be less than zero")
            if reader._exception is not None:
                raise reader._exception
            if self.count == 0:
                return b""
        if reader.buffer.size() < self.count:
            if reader._eof:
                raise asyncio.IncompleteReadError(reader.buffer.take(PY_SSIZE_T_MAX), self.count)
            return self.wait_for_data()
        data = reader.buffer.take(self.count)
        reader.resume()
        return data

    cdef object read_until(self, bint fresh):
        cdef ReaderCore reader = self.reader
        cdef Py_ssize_t size, shortest, longest, start = 0, end = -1
        if type(self.separators) is bytes:
            shortest = longest = PyBytes_GET_SIZE(self.separators)
        elif not self.separators:
            raise ValueError("Separator should contain at least one element")
        else:
            shortest, longest = len(self.separators[0]), len(self.separators[-1])
        if fresh:
            if shortest == 0:
                raise ValueError("Separator should be at least one-byte string")
            if reader._exception is not None:
                return self.failed(reader._exception)
        size = reader.buffer.size()
        if size - self.searched >= shortest:
            end = reader.buffer.find(self.separators, self.searched, &start)
            if end < 0:
                self.searched = max(size + 1 - longest, 0)
                if self.searched > reader.limit_low:
                    return self.failed(asyncio.LimitOverrunError(
                        "Separator is not found, and chunk exceed the limit", self.searched))
        if end < 0:
            if not reader._eof:
                return self.wait_for_data()
            data = reader.buffer.take(PY_SSIZE_T_MAX)
            if self.operation == READ_UNTIL:
                raise asyncio.IncompleteReadError(data, None)
            return self.line(data)
        if start > reader.limit_low:
            return self.failed(asyncio.LimitOverrunError(
                "Separator is found, but chunk is longer than limit", start))
        data = reader.buffer.take(end)
        reader.resume()
        return data

    cdef object line(self, bytes data):
        if self.operation == NEXT_LINE and not data:
            raise StopAsyncIteration
        return data

    cdef object failed(self, object error):
        """Raises what readuntil() fails with, as the method that was called does."""
        cdef ReaderCore reader = self.reader
        if self.operation != READ_LINE and self.operation != NEXT_LINE:
            raise error
        try:
            raise error
        except asyncio.IncompleteReadError as incomplete:
            return self.line(incomplete.partial)
        except asyncio.LimitOverrunError as overrun:
            consumed = overrun.consumed
            if (0 <= consumed < reader.buffer.size()
                    and reader.buffer.data()[<Py_ssize_t>consumed] == c"\n"):
                reader.buffer.drop(consumed + 1)
            else:
                reader.buffer.drop(reader.buffer.size())
            reader.resume()
            raise ValueError(overrun.args[0])

    cdef object drain(self, State state):
        cdef Stream stream
        cdef WriterCore writer = self.writer
        cdef ProtocolCore protocol = self.protocol
        if state == WAITING:
            return None
        if state == NEW:
            reader = writer._reader
            if type(reader) is reader_type:
                error = (<ReaderCore>reader)._exception
            else:
                error = None if reader is None else reader.exception()
            if error is not None:
                raise error
            stream = stream_behind(writer._transport)
            if stream.closing if stream is not None else writer._transport.is_closing():
                # connection_lost() may come now: who writes and drains in a loop has to see it.
                self.state = YIELDED
                return None
        if protocol._connection_lost:
            raise ConnectionResetError("Connection lost")
        if not protocol._paused:
            return None
        waiter = protocol._loop.create_future()
        protocol._drain_waiters.append(waiter)
        return self.wait(waiter)


cdef class ProtocolCore(DataReceiver):
    """What StreamReaderProtocol puts before asyncio's own class."""

    cdef public object _loop
    cdef public object _stream_reader_wr
    cdef public object _drain_waiters
    cdef public bint _paused
    cdef public bint _connection_lost

    def data_received(self, data):
        """Hands what has arrived to the reader, if somebody still has it."""
        self.hand_over(data)

    cdef bint is_compiled(self) noexcept:
        return type(self) is protocol_type

    cdef int receive(self, bytes data) except -1:
        return self.hand_over(data)

    cdef int hand_over(self, object data) except -1:
        if self._stream_reader_wr is None:
            return 0
        reader = self._stream_reader_wr()
        if type(reader) is reader_type:
            (<ReaderCore>reader).feed(data)
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
        writer = StreamWriter(transport, self, reader, self._loop)
        if KEEPS_WRITER:
            self._stream_writer = writer
        answer = self._client_connected_cb(reader, writer)
        if asyncio.iscoroutine(answer):
            loop = self._loop

            def ended(task):
                if task.cancelled():
                    transport.close()
                    return
                error = task.exception()
                if error is not None:
                    loop.call_exception_handler({
                        "message": "Unhandled exception in client_connected_cb",
                        "exception": error,
                        "transport": transport,
                    })
                    transport.close()

            self._task = loop.create_task(answer)
            self._task.add_done_callback(ended)
        self._strong_reader = None


cdef class WriterCore:
    """What StreamWriter puts before asyncio's own class."""

    cdef public object _transport
    cdef public object _protocol
    cdef public object _reader
    cdef public object _loop

    def write(self, data):
        """Sends `data`, or keeps what cannot be sent now until it can."""
        cdef Stream stream = stream_behind(self._transport)
        if stream is not None:
            write_to(stream, data)
        else:
            self._transport.write(data)

    def drain(self):
        """Waits until the transport has room for more.

        Raises what the reader was told of, ConnectionResetError once the connection is lost.
        """
        cdef Awaiting draining
        if type(self._protocol) is not protocol_type:
            return BaseWriter.drain(self)
        draining = Awaiting.__new__(Awaiting)
        draining.operation = DRAIN
        draining.writer = self
        draining.protocol = self._protocol
        return draining


class StreamReader(ReaderCore, asyncio.StreamReader):
    """asyncio.StreamReader, compiled.

    limit: the longest line, in bytes; reading pauses at twice as much.  ValueError unless it is
        positive.
    """


class StreamWriter(WriterCore, asyncio.StreamWriter):
    """asyncio.StreamWriter, compiled."""


class StreamReaderProtocol(ProtocolCore, asyncio.StreamReaderProtocol):
    """asyncio.StreamReaderProtocol, compiled: what stands between a transport and a reader."""


reader_type = StreamReader
protocol_type = StreamReaderProtocol
mark_coroutine_functions(ReaderCore.read, ReaderCore.readexactly, ReaderCore.readline,
                         ReaderCore.readuntil, WriterCore.drain)
