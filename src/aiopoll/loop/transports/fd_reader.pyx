"""The reading side of a transport whose other side is asyncio's.

Facts.  asyncio's transports for datagrams and pipes watch their file by loop._add_reader() and
forget it by loop._remove_reader(); what comes between is one callback for each time it is ready.

Rule.  An FdReader is what the reactor hands over in that callback's place.  It runs in the context
that the transport was made in.

Why.  What is cold (flow control, closing, errors) stays asyncio's own on every Python version.
"""

from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Exit

from aiopoll.loop.handles cimport enter_context
from aiopoll.loop.transports.compiled_protocol cimport source_of
from aiopoll.reactor.registration cimport GIVEN, READ
from aiopoll.reactor.runnable cimport Runnable


cdef class FdReader(Runnable):
    def __repr__(self):
        protocol = getattr(self.transport, "_protocol", None)
        return f"<{self.transport!r} read for {source_of(protocol)}>"

    cdef int start(self, object transport, int fd, object file) except -1:
        """Watches the file of `transport`, whose loop is ours; `file` is the object that has it."""
        self.transport = transport
        self.fd = fd
        self.loop = transport._loop
        if self.context is None:
            self.context = PyContext_CopyCurrent()
        self.registration = self.loop.reactor.register(fd, READ, self, GIVEN, file)
        return 0

    cdef int run(self) except -1:
        cdef Runnable outer = self.loop.running
        if self.registration is None:
            return 0
        context = enter_context(self.context)
        self.loop.running = self
        try:
            self.read()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.transport._fatal_error(error, "Fatal read error on transport")
        finally:
            self.loop.running = outer
            PyContext_Exit(context)
        return 0

    cdef int cancel(self) except -1:
        self.registration = None
        return 0

    cdef bint read(self) except -1:
        """Reads, and hands over what came; whether something did."""
        raise NotImplementedError

    cdef int report(self, str call, object error) except -1:
        """Reports an exception in a callback of the protocol, which does not end the transport."""
        self.loop.call_exception_handler({
            "message": f"Exception in callback protocol.{call}()",
            "exception": error,
            "transport": self.transport,
            "protocol": self.transport.get_protocol(),
        })
        return 0
