# cython: auto_pickle=False
"""The data of streams: data that has arrived, and the task that waits for it.

Facts.  Programs and libraries use asyncio's private names: they read, clear and keep `_buffer`,
set `_limit`, and set `_transport` after start_tls.

Rule.  The attributes that asyncio names keep their names and meaning.  Reading pauses beyond twice
the limit, and goes on at the limit.

Cost.  `_buffer` is a bytearray from the first time that a program asks for it.
"""

cimport cython

from aiopoll.loop.core cimport future_for
from aiopoll.loop.streams.buffer cimport StreamBuffer
from aiopoll.loop.transports.stream cimport limit_as_size

import asyncio
import sys

from asyncio import format_helpers, streams

DEFAULT_LIMIT = streams._DEFAULT_LIMIT

cdef object Future = asyncio.Future
cdef object create_future_of_asyncio = asyncio.BaseEventLoop.create_future
# Called with its future, it is not looked up for each.
cdef object set_result_of = Future.set_result
cdef type reader_type = None


cdef void set_reader_type(type kind) noexcept:
    """Notes which class is StreamReader: a subclass may override anything."""
    global reader_type
    reader_type = kind


cdef bint is_plain_reader(object reader) noexcept:
    """Whether it is a StreamReader, and of no class derived from that."""
    return type(reader) is reader_type


cdef class StreamReaderCore:
    """The data of a StreamReader."""

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
        return self.buffer.expose()

    @_buffer.setter
    def _buffer(self, buffer):
        self.buffer.replace(buffer)

    @cython.final
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

    @cython.final
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

    @cython.final
    cdef int pause(self) except -1:
        try:
            self._transport.pause_reading()
        except NotImplementedError:
            self._transport = None  # all data has to be kept, and pausing is not tried again
        else:
            self._paused = True
        return 0

    @cython.final
    cdef int resume(self) except -1:
        if self._paused and self.buffer.size() <= self.limit_low:
            self._paused = False
            self._transport.resume_reading()
        return 0

    @cython.final
    cdef object new_future(self):
        return Future(loop=self._loop) if self.plain_futures else future_for(self._loop)


cdef class StreamWriterCore:
    """The data of a StreamWriter."""


cdef class StreamProtocolCore(CompiledProtocol):
    """The data of a StreamReaderProtocol."""
