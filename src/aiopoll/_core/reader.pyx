"""The reading side of a transport whose other side is asyncio's.

Facts.  asyncio's transports for datagrams and pipes watch their file by loop._add_reader() and
forget it by loop._remove_reader(); what comes between is one callback for each time it is ready.

Rule.  A Reader is what the reactor hands over in that callback's place.  It runs in the context
that the transport was made in, and tells the reactor whether it found something.

Why.  What is cold (flow control, closing, errors) stays asyncio's own on every Python version.
"""

from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Exit

from aiopoll._core.handles cimport Runnable, enter_context
from aiopoll._core.loop cimport LoopCore
from aiopoll._core.reactor cimport CALLS_AGAIN, READ, STRICT


cdef class Reader(Runnable):
    def __repr__(self):
        return f"<{self.transport!r} read>"

    cdef int start(self, object transport, int fd, bint eager) except -1:
        """Watches the file of `transport`, whose loop is ours.

        eager: read() never blocks, so that it may be tried before the file is known to be ready.
        """
        self.transport = transport
        self.fd = fd
        self.eager = eager
        self.loop = transport._loop
        if self.context is None:
            self.context = PyContext_CopyCurrent()
        self.watch = self.loop.reactor.watch(fd, READ, self, CALLS_AGAIN if eager else STRICT)
        return 0

    cdef int run(self) except -1:
        cdef bint hit = False
        cdef Runnable outer = self.loop.running
        if self.watch is None:
            return 0
        context = enter_context(self.context)
        self.loop.running = self
        try:
            hit = self.read()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.transport._fatal_error(error, "Fatal read error on transport")
        finally:
            self.loop.running = outer
            PyContext_Exit(context)
            if self.watch is not None and self.eager:
                self.loop.reactor.again(self.watch, hit)
        return 0

    cdef int cancel(self) except -1:
        self.watch = None
        return 0

    cdef int yield_to_loop(self) except -1:
        if self.watch is not None and self.eager:
            self.loop.reactor.again(self.watch, False)
        return 0

    cdef bint read(self) except -1:
        """Reads, and hands over what came; whether something did."""
        raise NotImplementedError

    cdef int report(self, str call, object error) except -1:
        """Tells of an exception in a callback of the protocol, which does not end the transport."""
        self.loop.call_exception_handler({
            "message": f"Exception in callback protocol.{call}()",
            "exception": error,
            "transport": self.transport,
            "protocol": self.transport.get_protocol(),
        })
        return 0
