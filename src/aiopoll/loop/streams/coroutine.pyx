# cython: auto_pickle=False
"""The coroutine that read(), drain() and their kin return, compiled.

Facts.  `await x` takes tp_iternext of what x.__await__() returns; `yield from` asks that for its
__iter__ first.  It takes the result that comes with NULL from StopIteration, or None where no
exception is set.  inspect.getcoroutinestate(), the stacks of tasks and debuggers read cr_running,
cr_suspended, cr_frame and cr_code.  asyncio.iscoroutine() is true of a collections.abc.Coroutine.

Rule.  It does nothing until it is awaited; a StopIteration is raised without a traceback.  It
stands for a coroutine function of asyncio's, whose names and code it shows.  Its frame is that of
a coroutine of the function, closed before it began.

States: NEW -> WAITING, YIELDED, DONE;  WAITING -> WAITING, DONE;  YIELDED -> WAITING, DONE.

Why.  Neither a frame nor a future where the data is there.  A stack that is printed names the
function that was called, where a reader can look it up.

Cost.  inspect.iscoroutine() asks for types.CoroutineType, from which nothing derives.
Unlike in asyncio, a read that wakes does not forget another read that began to wait meanwhile.
"""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE

from aiopoll.loop.streams.core cimport is_plain_reader
from aiopoll.loop.transports.connection cimport OPEN
from aiopoll.loop.transports.socket_transport cimport stream_behind
from aiopoll.loop.transports.stream cimport Stream

import asyncio
import inspect
import warnings

# What C keeps is there to the end of the interpreter; modules have been emptied by then.
cdef object warn = warnings.warn

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    void set_stop_iteration "PyErr_SetObject"(object type, object value) noexcept

cdef object Future = asyncio.Future
# Called with its future, it is not looked up for each.
cdef object result_of = Future.result

cdef tuple FUNCTIONS = (  # in the order of Operation
    asyncio.StreamReader.read,
    asyncio.StreamReader.read,
    asyncio.StreamReader.readexactly,
    asyncio.StreamReader.readuntil,
    asyncio.StreamReader.readline,
    asyncio.StreamReader.__anext__,
    asyncio.StreamWriter.drain,
)


cdef int warn_of_no_await(Operation operation) except -1:
    warn(f"coroutine '{FUNCTIONS[operation].__qualname__}' was never awaited",
                  RuntimeWarning, stacklevel=1)
    return 0


cdef object reuse_error():
    return RuntimeError("cannot reuse already awaited coroutine")


cdef object refuse(object error):
    raise error


@cython.final
@cython.freelist(64)
cdef class StreamCoroutine:
    """The result of a stream's method: a collections.abc.Coroutine, begun by the first send()."""

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

    def __await__(self):
        return self

    def __iter__(self):
        return self

    @property
    def __name__(self):
        return FUNCTIONS[self.operation].__name__

    @property
    def __qualname__(self):
        return FUNCTIONS[self.operation].__qualname__

    @property
    def cr_await(self):
        """The future that it waits for; None while it does not wait."""
        return self.waiter if self.state == WAITING else None

    @property
    def cr_code(self):
        """The code of asyncio's function that it stands for."""
        return FUNCTIONS[self.operation].__code__

    @property
    def cr_frame(self):
        """A frame of that function, without its variables; None once it has ended."""
        if self.state == DONE:
            return None
        function = FUNCTIONS[self.operation]
        coroutine = function(*[None] * function.__code__.co_argcount)
        frame = coroutine.cr_frame
        coroutine.close()
        return frame

    @property
    def cr_running(self):
        """False: it does not call the program."""
        return False

    @property
    def cr_suspended(self):
        """Whether it has begun, and waits."""
        return self.state == WAITING or self.state == YIELDED

    @property
    def cr_state(self):
        """The state as inspect names it, which reads this from Python 3.15 on."""
        if self.state == DONE:
            return inspect.CORO_CLOSED
        return inspect.CORO_CREATED if self.state == NEW else inspect.CORO_SUSPENDED

    @property
    def cr_origin(self):
        """None: where it was made is not kept."""
        return None

    cdef object resumed(self):
        """Goes on: returns the future to wait for, or in the state DONE the result."""
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
        cdef StreamReaderCore reader = self.reader
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
        cdef StreamReaderCore reader = self.reader
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
        cdef StreamReaderCore reader = self.reader
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
        cdef StreamReaderCore reader = self.reader
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
        cdef StreamReaderCore reader = self.reader
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
        cdef StreamReaderCore reader = self.reader
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
        cdef StreamWriterCore writer = self.writer
        cdef StreamProtocolCore protocol = self.protocol
        if state == WAITING:
            return None
        if state == NEW:
            reader = writer._reader
            if is_plain_reader(reader):
                error = (<StreamReaderCore>reader)._exception
            else:
                error = None if reader is None else reader.exception()
            if error is not None:
                raise error
            stream = stream_behind(writer._transport)
            if stream.state != OPEN if stream is not None else writer._transport.is_closing():
                # connection_lost() may come now: a task that writes in a loop has to see it.
                self.state = YIELDED
                return None
        if protocol._connection_lost:
            raise ConnectionResetError("Connection lost")
        if not protocol._paused:
            return None
        waiter = protocol._loop.create_future()
        protocol._drain_waiters.append(waiter)
        return self.wait(waiter)


cdef StreamCoroutine new_read(StreamReaderCore reader, Operation operation, Py_ssize_t count,
                              object separators):
    cdef StreamCoroutine reading = StreamCoroutine.__new__(StreamCoroutine)
    reading.reader = reader
    reading.operation = operation
    reading.count = count
    reading.separators = separators
    return reading


cdef StreamCoroutine new_drain(StreamWriterCore writer, StreamProtocolCore protocol):
    cdef StreamCoroutine draining = StreamCoroutine.__new__(StreamCoroutine)
    draining.operation = DRAIN
    draining.writer = writer
    draining.protocol = protocol
    return draining


def mark_coroutine_functions(*functions):
    """Makes iscoroutinefunction() true of compiled functions, as far as Python lets it be said."""
    mark = getattr(asyncio.coroutines, "_is_coroutine", None)
    for function in functions:
        if mark is not None:
            function._is_coroutine = mark
        if hasattr(inspect, "markcoroutinefunction"):  # Python 3.12
            inspect.markcoroutinefunction(function)
