"""An own ring for the files of a loop that has none: asyncio's, uvloop's, ours on epoll.

Facts.  With IOCB_FLAG_RESFD the kernel adds 1 to an eventfd after each event (fs/aio.c,
aio_complete), which any loop can watch with add_reader.  io_destroy blocks for tens of
milliseconds.

Rule.  Requests from the callbacks of an iteration leave in one io_submit: in a callback of the
next iteration, or when the queue submits early (FileQueue.submit_if_underfilled).  The events in
the ring by then are reaped at once; for the rest the eventfd becomes readable.  In a forked child,
which may go on with asyncio's loop, it does nothing: the ring and the eventfd are the parent's.

Why.  Any loop can watch an eventfd, and one io_submit takes many requests.

Cost.  An eventfd, slots of fs.aio-max-nr, and a read of the eventfd for each time that events
come, until the loop shuts down.

Failure prevented.  The eventfd is read after the events were reaped.  An event that comes in
between raises its counter, and the read clears it.  The loop sleeps though an event is in the ring.
"""

cimport cython
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint64_t
from posix.unistd cimport close, read

from aiopoll.aio.fork_guard cimport fork_guard_use, process_guard
from aiopoll.aio.ring cimport (
    RING_FULL, RING_REAP, RING_SUBMITTED, RingBatch, RingResult, ring_detach, ring_init,
    ring_is_inherited, ring_reap, ring_wait,
)
from aiopoll.loop.core cimport LoopCore
from aiopoll.reactor.ring_reactor cimport traced_submit
from aiopoll.reactor.trace_buffer cimport trace_buffer

import os

from aiopoll.aio.errors import setup_error

cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK

    int eventfd(unsigned int initial, int flags)

fork_guard_use(process_guard())


@cython.final
cdef class FileRing:
    """Submits the requests of a source and reaps their events, on any loop that has add_reader.

    Raises OSError where no AIO context can be had, NotImplementedError where the loop watches
    no files.
    """

    def __cinit__(self, *args, **options):
        # Whatever the arguments are: where one is refused, the descriptor 0 would be closed.
        self.event_fd = -1

    def __init__(self, loop, RequestSource source not None, nr_events):
        cdef unsigned nr = nr_events
        cdef abi.aio_context_t ctx = 0
        cdef long result
        cdef bint want_mapped = os.environ.get("AIOPOLL_USER_RING") != "0"
        if self.ring.ctx:
            raise RuntimeError("a FileRing is initialised once")
        # Until the ring owns the context no Python code runs, which an interrupt could end.
        result = abi.aio_sys_setup(nr, &ctx)
        if result < 0:
            raise setup_error(-result, nr)
        ring_init(&self.ring, ctx, nr, want_mapped)
        # A sandbox's refusal is better found now than with requests in flight.
        result = abi.aio_sys_submit(ctx, 0, self.batch)
        if result == 0:
            result = ring_wait(&self.ring, self.events, 1, 0)
        if result < 0:
            raise OSError(-result, f"io_submit or io_getevents: {os.strerror(-result)}")
        self.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.event_fd < 0:
            raise OSError(errno, f"eventfd: {os.strerror(errno)}")
        loop.add_reader(self.event_fd, self.on_event)
        self.loop = loop
        self.source = source

    def __dealloc__(self):
        self.free()

    cdef int free(self) except -1:
        cdef abi.aio_context_t ctx = ring_detach(&self.ring)
        if ctx:
            with nogil:
                abi.aio_sys_destroy(ctx)
        if self.event_fd >= 0:
            close(self.event_fd)
        self.event_fd = -1
        return 0

    cdef int submit_later(self) except -1:
        """Has the next iteration submit the waiting requests."""
        if not self.scheduled and not self.busy:
            self.scheduled = True
            self.loop.call_soon(self.flush)
        return 0

    def flush(self):
        """Submits the waiting requests, and reaps the events that are there."""
        self.scheduled = False
        if self.ring.ctx and not self.busy and not ring_is_inherited(&self.ring):
            self.submit_waiting()
            self.reap(False)
            if self.source.waiting and self.source.in_flight == 0:
                self.submit_later()

    def on_event(self):
        """Called when the eventfd is readable."""
        cdef uint64_t count
        if not ring_is_inherited(&self.ring):
            read(self.event_fd, &count, sizeof(count))
            self.flush()

    cdef int submit_waiting(self) except -1:
        """Submits as many requests as find a slot, unless a submission is going on."""
        cdef RingBatch batch
        cdef RingResult result
        cdef Py_ssize_t i
        cdef trace_buffer *trace = NULL
        if self.busy:
            return 0
        if isinstance(self.loop, LoopCore):
            trace = (<LoopCore>self.loop).reactor.trace
        self.busy = True
        try:
            while self.source.waiting:
                batch.iocbs = self.batch
                batch.nr = self.source.fill_batch(self.batch, EVENTS_MAX)
                batch.taken = 0
                batch.reaped = False
                if batch.nr == 0:
                    break
                for i in range(batch.nr):
                    self.batch[i].aio_flags |= abi.IOCB_FLAG_RESFD
                    self.batch[i].aio_resfd = self.event_fd
                while True:
                    with nogil:
                        result = traced_submit(trace, &self.ring, &batch)
                    if result == RING_SUBMITTED:
                        break
                    if result == RING_REAP:
                        self.reap(False)
                    elif result == RING_FULL:
                        self.source.on_submit_error(self.batch + batch.taken,
                                                    batch.nr - batch.taken, EAGAIN)
                        return 0
                    else:
                        self.source.on_submit_error(self.batch + batch.taken, 1, batch.error)
                        batch.taken += 1
        finally:
            self.busy = False
        return 0

    cdef int reap(self, bint wait) except -1:
        """Reaps events; if `wait`, waits for at least one before."""
        cdef long count = EVENTS_MAX, i
        while count == EVENTS_MAX:
            if wait:
                with nogil:
                    count = ring_wait(&self.ring, self.events, EVENTS_MAX, -1)
                wait = False
            else:
                count = ring_reap(&self.ring, self.events, EVENTS_MAX)
            if count < 0 and count != -EINTR:
                raise OSError(-count, f"io_getevents: {os.strerror(-count)}")
            for i in range(count):
                self.source.complete(&self.events[i])
        return 0

    cdef int drain(self) except -1:
        """Submits the waiting requests, and waits until nothing is in flight."""
        while self.source.waiting + self.source.in_flight > 0:
            if self.source.waiting:
                self.submit_waiting()
            if self.source.in_flight:
                self.reap(True)
        return 0

    cdef int close(self) except -1:
        """Gives the context and the eventfd back; no request may be in flight."""
        if self.event_fd >= 0 and not self.loop.is_closed():
            self.loop.remove_reader(self.event_fd)
        return self.free()
