# cython: auto_pickle=False
"""TLS over a stream: asyncio's SSLProtocol with its hot path compiled.

Facts.  asyncio.sslproto is Python over ssl.SSLObject and two ssl.MemoryBIO: what came goes into the
incoming one, and what the outgoing one has goes to the transport.  OpenSSL takes from the incoming
BIO no more than the record that it works on (no read ahead), SSL_read returns one record at most,
and a read that finds no whole record costs an exception.  _ssl releases the GIL in SSL_read and
SSL_write, never in a BIO.

Rule.  Compiled is what runs for every message once the handshake is done; handshake, shutdown,
errors, timeouts and the flow control that has something to do stay asyncio's own methods, on the
same attributes.  Reading ends without another SSL_read where the incoming BIO is empty and the last
record was taken whole: nothing that OpenSSL has not seen is left.  What is written is encrypted and
handed to the transport when write() returns, as in asyncio: a record a write.  Only a MemoryBIO of
ssl's own is lent memory; an SSLObject, which may be a program's, gets objects that own theirs.

Why.  No exception for each message, and no buffer of 256 KiB for each connection and each read.

Cost.  Each method replaced here has to be the one that is known: where asyncio's uses other names,
`compiled` is false and the classes are asyncio's own.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo
from cpython.buffer cimport PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from aiopoll.loop.transports.compiled_protocol cimport BufferedSink, is_buffered

import math
import ssl

from asyncio import sslproto

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    RECORD_MAX = 16 * 1024  # bytes of data in one record of TLS
    READ_SIZE = 256 * 1024  # what other transports read at most at once, as in asyncio

cdef object BaseProtocol = sslproto.SSLProtocol
cdef object BaseTransport = sslproto._SSLProtocolTransport
cdef object AGAIN = sslproto.SSLAgainErrors
cdef object DO_HANDSHAKE = sslproto.SSLProtocolState.DO_HANDSHAKE
cdef object WRAPPED = sslproto.SSLProtocolState.WRAPPED
cdef object FLUSHING = sslproto.SSLProtocolState.FLUSHING
cdef object SHUTDOWN = sslproto.SSLProtocolState.SHUTDOWN

# ssl's names and SSLObject's methods at import: programs subclass and replace them.
cdef object SSLObject = ssl.SSLObject
cdef object MemoryBIO = ssl.MemoryBIO
cdef object CALLS = (SSLObject.read, SSLObject.write, SSLObject.pending)

# The class at the end of this module, for comparisons.
cdef type protocol_type

# The names of asyncio that the methods replaced here use, on Python 3.11 to 3.15.
KNOWN = {
    "buffer_updated": "DO_HANDSHAKE FLUSHING SHUTDOWN SSLProtocolState WRAPPED _do_flush"
                      " _do_handshake _do_read _do_shutdown _incoming _ssl_buffer_view _state write",
    "_get_app_transport": "RuntimeError _SSLProtocolTransport _app_transport"
                          " _app_transport_created _loop",
    "_write_appdata": "Exception FLUSHING LOG_THRESHOLD_FOR_CONNLOST_WRITES SHUTDOWN"
                      " SSLProtocolState UNWRAPPED WRAPPED _conn_lost _do_write _fatal_error _state"
                      " _write_backlog _write_buffer_size append constants len logger warning",
    "_do_write": "SSLAgainErrors _process_outgoing _sslobj _write_backlog _write_buffer_size len"
                 " write",
    "_process_outgoing": "_control_app_writing _outgoing _ssl_writing_paused _transport len read"
                         " write",
    "_do_read": "Exception FLUSHING SSLProtocolState WRAPPED _app_protocol_is_buffer"
                " _app_reading_paused _control_ssl_reading _do_read__buffered _do_read__copied"
                " _do_write _fatal_error _process_outgoing _state _write_backlog",
    "_do_read__buffered": "SSLAgainErrors _app_protocol_buffer_updated _app_protocol_get_buffer"
                          " _call_eof_received _do_read _get_read_buffer_size _loop _sslobj"
                          " _start_shutdown call_soon len read",
    "_do_read__copied": "SSLAgainErrors _app_protocol _call_eof_received _sslobj _start_shutdown"
                        " append data_received join max_size read",
}


def names_of(code):
    """The names that a function uses, those of the functions inside it among them."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if hasattr(constant, "co_names"):
            names |= names_of(constant)
    return names


def is_known(protocol=BaseProtocol):
    """Whether `protocol` is the SSLProtocol that TLSProtocol was written for."""
    for name, names in KNOWN.items():
        method = getattr(protocol, name, None)
        code = getattr(method, "__code__", None)
        if code is None or names_of(code) != set(names.split()):
            return False
    return True


compiled = is_known()


@cython.final
cdef class Window:
    """Memory that MemoryBIO.write() copies; empty before and after, and no other code sees it."""

    cdef char *data
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, 0, flags)


cdef inline Py_ssize_t pending(object bio) except -1:
    return bio.pending


cdef object raw(object sslobj):
    """The object of _ssl that an SSLObject calls; itself, where a program has its own way."""
    if type(sslobj) is SSLObject and CALLS == (
            SSLObject.read, SSLObject.write, SSLObject.pending):
        return sslobj._sslobj
    return sslobj


cdef Py_ssize_t size_of(object buffer, int flags) except -1:
    """The bytes of a buffer; TypeError or BufferError for what is none."""
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, flags)
    PyBuffer_Release(&view)
    return view.len


cdef object part_of(object data, Py_ssize_t start):
    """A buffer from `start` on, of one that owns its memory or keeps the owner."""
    return data if start == 0 else memoryview(data).cast("B")[start:]


cdef inline bytes as_bytes(object data):
    """The data that was read, as a bytes object, whatever a program's SSLObject returns."""
    return <bytes>data if type(data) is bytes else bytes(memoryview(data or b""))


cdef Py_ssize_t mark_as_size(object limit) except -1:
    """The least size that reaches a high-water mark; programs also set infinity."""
    return PY_SSIZE_T_MAX if limit >= PY_SSIZE_T_MAX else math.ceil(limit)


cdef class TLSCore(BufferedSink):
    """The base class that TLSProtocol puts before asyncio's own."""

    cdef public object _state
    cdef public object _transport
    cdef public object _app_protocol
    cdef public object _app_protocol_get_buffer
    cdef public object _app_protocol_buffer_updated
    cdef public object _write_backlog
    cdef public Py_ssize_t _write_buffer_size
    cdef public bint _app_protocol_is_buffer
    cdef public bint _app_reading_paused
    cdef public bint _app_writing_paused
    cdef public bint _ssl_reading_paused
    cdef public bint _ssl_writing_paused
    cdef object sslobj
    cdef object ssl_read
    cdef object ssl_write
    cdef object ssl_pending
    cdef object incoming
    cdef object incoming_write
    cdef object outgoing
    cdef object outgoing_read
    cdef bytearray buffer  # for transports that are not ours
    cdef Window window
    cdef Py_ssize_t incoming_high
    cdef Py_ssize_t outgoing_high
    cdef Py_ssize_t arrived  # bytes that came last, until they are read
    cdef Py_ssize_t left  # bytes in the incoming BIO; -1 if that is not known
    cdef bint awaited  # the handshake is just over
    cdef bint record_begun  # OpenSSL may have a part of a record already

    def __cinit__(self, *args, **options):
        self.window = Window.__new__(Window)

    @property
    def _sslobj(self):
        return self.sslobj

    @_sslobj.setter
    def _sslobj(self, sslobj):
        caller = raw(sslobj)
        self.ssl_read = caller.read
        self.ssl_write = caller.write
        self.ssl_pending = caller.pending
        self.sslobj = sslobj

    def _set_app_protocol(self, protocol):
        BaseProtocol._set_app_protocol(self, protocol)
        if not self._app_protocol_is_buffer and is_buffered(protocol):
            self._app_protocol_get_buffer = protocol.get_buffer
            self._app_protocol_buffer_updated = protocol.buffer_updated
            self._app_protocol_is_buffer = True

    @property
    def _incoming(self):
        return self.incoming

    @_incoming.setter
    def _incoming(self, bio):
        self.incoming_write = bio.write
        self.incoming = bio

    @property
    def _outgoing(self):
        return self.outgoing

    @_outgoing.setter
    def _outgoing(self, bio):
        self.outgoing_read = bio.read
        self.outgoing = bio

    def _set_read_buffer_limits(self, high=None, low=None):
        BaseProtocol._set_read_buffer_limits(self, high, low)
        self.incoming_high = mark_as_size(self._incoming_high_water)

    def _set_write_buffer_limits(self, high=None, low=None):
        BaseProtocol._set_write_buffer_limits(self, high, low)
        self.outgoing_high = mark_as_size(self._outgoing_high_water)

    def _get_app_transport(self):
        if self._app_transport is None and not self._app_transport_created:
            self._app_transport = SSLTransport(self._loop, self)
            self._app_transport_created = True
        return BaseProtocol._get_app_transport(self)

    def _on_handshake_complete(self, error):
        # The caller of start_tls() must have the transport before the first data comes.
        self.awaited = self._waiter is not None
        try:
            BaseProtocol._on_handshake_complete(self, error)
        finally:
            self.awaited = False

    # Reading

    cdef int received(self, char *data, Py_ssize_t size) except -1:
        cdef Window window = self.window
        if type(self.incoming) is not MemoryBIO:
            self.incoming_write(PyBytes_FromStringAndSize(data, size))
        else:
            window.data = data
            window.size = size
            try:
                self.incoming_write(window)
            finally:
                window.data = NULL
                window.size = 0
        self.arrived = size
        return self.go_on()

    def get_buffer(self, n):
        """Where a transport that is not ours puts what it reads."""
        if self.buffer is None:
            self.buffer = bytearray(READ_SIZE)
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes):
        """Takes `nbytes` from where get_buffer() had them put."""
        self.incoming_write(self.get_buffer(-1)[:nbytes])
        self.go_on()

    cdef int go_on(self) except -1:
        """Does what the state asks for with what came."""
        state = self._state
        if state is WRAPPED:
            return self.read()
        if state is DO_HANDSHAKE:
            self._do_handshake()
        elif state is FLUSHING:
            self._do_flush()
        elif state is SHUTDOWN:
            self._do_shutdown()
        return 0

    def _do_read(self):
        if self.awaited:
            self.send()  # the last of the handshake
            self._loop.call_soon(self._do_read)
        else:
            self.read()

    cdef int read(self) except -1:
        """Delivers the data that can be read, and sends the records that this caused."""
        if self._state is not WRAPPED and self._state is not FLUSHING:
            return 0
        try:
            self.left = -1
            if not self._app_reading_paused:
                if self._app_protocol_is_buffer:
                    self.read_buffered()
                else:
                    self.read_plain()
                if self._write_backlog:
                    self.write_backlog()
                else:
                    self.send()
            if self.left < 0:
                self.left = pending(self.incoming)
            if self._ssl_reading_paused or self.left >= self.incoming_high:
                self._control_ssl_reading()
        except Exception as error:
            self._fatal_error(error, "Fatal error on SSL protocol")
        return 0

    cdef bint may_have_more(self, bint full) except -1:
        """Whether another read may find something.

        full: the last one got all that it asked for, perhaps not the whole record.
        """
        self.left = pending(self.incoming)
        return self.left > 0 or full and self.ssl_pending() > 0

    cdef int read_plain(self) except -1:
        """Reads all there is for a Protocol."""
        cdef Py_ssize_t wanted
        cdef bytes first = None, chunk = None
        cdef list chunks = None
        cdef bint more = True
        try:
            while more:
                # A record is no shorter than its data, unless the record has begun before.
                if self.record_begun:
                    wanted = RECORD_MAX
                else:
                    wanted = self.arrived or pending(self.incoming)
                    wanted = min(max(wanted, 1), <Py_ssize_t>RECORD_MAX)
                self.arrived = 0
                chunk = as_bytes(self.ssl_read(wanted))
                self.record_begun = False
                if not PyBytes_GET_SIZE(chunk):
                    break
                if first is None:
                    first = chunk
                elif chunks is None:
                    chunks = [first, chunk]
                else:
                    chunks.append(chunk)
                more = self.may_have_more(PyBytes_GET_SIZE(chunk) == wanted)
        except AGAIN:
            self.record_begun = True
            self.left = -1
        if first is not None:
            self._app_protocol.data_received(first if chunks is None else b"".join(chunks))
        if chunk is not None and not PyBytes_GET_SIZE(chunk):
            self.end_of_data()
        return 0

    cdef int read_buffered(self) except -1:
        """Fills the buffer of a BufferedProtocol once."""
        cdef Py_ssize_t filled = 0, count = 1, room
        cdef bint more = True
        buffer = self._app_protocol_get_buffer(pending(self.incoming))
        room = size_of(buffer, PyBUF_WRITABLE)
        try:
            while more and count > 0 and filled < room:
                count = self.ssl_read(room - filled, part_of(buffer, filled))
                self.record_begun = False
                filled += count
                more = self.may_have_more(filled == room)
        except AGAIN:
            self.record_begun = True
            self.left = -1
            more = False
        if room == 0:
            count = 0  # what asyncio takes for the end
        elif more and count > 0:
            self._loop.call_soon(self._do_read)
        if filled > 0:
            self._app_protocol_buffer_updated(filled)
        if count == 0:
            self.end_of_data()
        return 0

    cdef int end_of_data(self) except -1:
        """The other side has said close_notify."""
        if self._write_backlog:
            self.write_backlog()
        self._call_eof_received()
        self._start_shutdown()
        return 0

    # Writing

    cdef int write(self, bytes data) except -1:
        """Sends `data`, now or as soon as it can be sent."""
        if self._state is not WRAPPED:
            self._write_appdata((data,))
            return 0
        self._write_backlog.append(data)
        self._write_buffer_size += PyBytes_GET_SIZE(data)
        try:
            self.write_backlog()
        except Exception as error:
            self._fatal_error(error, "Fatal error on SSL protocol")
        return 0

    def _do_write(self):
        self.write_backlog()

    cdef int write_backlog(self) except -1:
        """Encrypts what waits, and sends it."""
        backlog = self._write_backlog
        try:
            while backlog:
                if len(backlog) > 1:
                    self.join_small()
                self.write_first()
        except AGAIN:
            pass
        return self.send()

    cdef int join_small(self) except -1:
        """Makes one of the first parts, as long as they fit into one record."""
        cdef Py_ssize_t size = 0, count = 0
        backlog = self._write_backlog
        for part in backlog:
            if type(part) is not bytes or size + PyBytes_GET_SIZE(part) > RECORD_MAX:
                break
            size += PyBytes_GET_SIZE(part)
            count += 1
        if count > 1:
            backlog.appendleft(b"".join([backlog.popleft() for _ in range(count)]))
        return 0

    cdef int write_first(self) except -1:
        """Encrypts the first part; what is left of it stays where OpenSSL wants to read first."""
        cdef Py_ssize_t done = 0, size
        data = self._write_backlog[0]
        if type(data) is bytes and 0 < PyBytes_GET_SIZE(data) <= RECORD_MAX:
            done = self.ssl_write(data)
            if done == PyBytes_GET_SIZE(data):
                self._write_buffer_size -= done
                self._write_backlog.popleft()
                return 0
        size = size_of(data, PyBUF_SIMPLE)
        try:
            while done < size:
                done += <Py_ssize_t>self.ssl_write(part_of(data, done))
        finally:
            if 0 < done < size:
                self._write_backlog[0] = bytes(part_of(data, done))
                self._write_buffer_size += size - done - <Py_ssize_t>len(data)
        self._write_buffer_size -= <Py_ssize_t>len(data)
        self._write_backlog.popleft()
        return 0

    def _process_outgoing(self):
        self.send()

    cdef int send(self) except -1:
        """Gives what is encrypted to the transport, if that takes it."""
        cdef Py_ssize_t size = self._write_buffer_size
        cdef bytes data
        if self._ssl_writing_paused:
            size += pending(self.outgoing)
        else:
            data = self.outgoing_read()
            if data:
                self._transport.write(data)
        if self._app_writing_paused or size >= self.outgoing_high:
            self._control_app_writing()
        return 0

    # The end

    def _do_shutdown(self):
        # Data that comes after the transport was closed is dropped: OpenSSL would report an error.
        if not self._eof_received:
            try:
                while self.ssl_read(RECORD_MAX):
                    pass
            except ssl.SSLError:
                pass  # nothing more for now; unwrap() reports other errors as well
        BaseProtocol._do_shutdown(self)


class SSLTransport(BaseTransport):
    """asyncio's transport for the protocol over TLS, with write() compiled."""

    def write(self, data):
        """Sends `data`, or keeps what cannot be sent now until it can."""
        protocol = self._ssl_protocol
        if type(data) is not bytes or type(protocol) is not protocol_type:
            BaseTransport.write(self, data)
        elif PyBytes_GET_SIZE(data):
            (<TLSCore>protocol).write(data)


class CompiledTLSProtocol(TLSCore, BaseProtocol):
    """asyncio's SSLProtocol with TLSCore before it."""

    max_size = 0  # bytes that asyncio's constructor allocates; get_buffer() does it where needed


protocol_type = CompiledTLSProtocol
TLSProtocol = CompiledTLSProtocol if compiled else BaseProtocol
