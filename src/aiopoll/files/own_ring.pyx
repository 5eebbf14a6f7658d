"""A ring of its own for the files of a loop that has none: asyncio's, uvloop's, ours on epoll.

Facts.  With IOCB_FLAG_RESFD the kernel adds 1 to an eventfd after each event (fs/aio.c,
aio_complete), which any loop can watch with add_reader.  io_destroy blocks for tens of
milliseconds.

Rule.  What the turn's callbacks ask for leaves in one io_submit, in a callback of the next turn, or
when the queue says so (FileQueue.hurry).
What has completed by then is taken at once; the eventfd tells of the rest.

Cost.  An eventfd, slots of fs.aio-max-nr, and a read of the eventfd for each time that events
come, until the loop shuts down.
"""

cimport cython
from libc.errno cimport EAGAIN, EINTR, errno
from posix.unistd cimport close, read

import os

from aiopoll.aio.errors import setup_error

cdef extern from "fork_guard.h":
    void aio_mm_page_map()
    uint64_t aio_mm_generation()

cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK

    int eventfd(unsigned int initial, int flags)

aio_mm_page_map()


@cython.final
cdef class FileRing:
    """Submits a rider's requests and takes their events, on any loop that has add_reader.

    Raises OSError where no AIO context is to be had, NotImplementedError where the loop watches
    no files.
    """

    def __cinit__(self, loop, Rider rider not None, nr_events):
        self.event_fd = -1
        self.use_pgetevents = 1

    def __init__(self, loop, Rider rider not None, nr_events):
        cdef unsigned nr = nr_events
        cdef long result
        if self.ctx:
            raise RuntimeError("a FileRing is initialised once")
        self.mm_generation = aio_mm_generation()
        result = abi.aio_sys_setup(nr, &self.ctx)
        if result < 0:
            self.ctx = 0
            raise setup_error(-result, nr)
        # What the sandbox refuses is better known now than with requests in flight.
        result = abi.aio_sys_submit(self.ctx, 0, self.batch)
        if result == 0:
            result = wait_ring(self.ctx, 1, self.events, 0, &self.use_pgetevents)
        if result < 0:
            raise OSError(-result, f"io_submit or io_getevents: {os.strerror(-result)}")
        if os.environ.get("AIOPOLL_USER_RING") != "0":
            self.ring = abi.aio_ring_of(self.ctx)
        self.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.event_fd < 0:
            raise OSError(errno, f"eventfd: {os.strerror(errno)}")
        loop.add_reader(self.event_fd, self.on_event)
        self.loop = loop
        self.rider = rider

    def __dealloc__(self):
        if self.ctx and self.mm_generation == aio_mm_generation():
            abi.aio_sys_destroy(self.ctx)
        if self.event_fd >= 0:
            close(self.event_fd)

    def want(self):
        """There is something to submit."""
        if not self.scheduled and not self.busy:
            self.scheduled = True
            self.loop.call_soon(self.flush)

    def flush(self):
        """Submits what waits, and takes what has completed already."""
        self.scheduled = False
        if self.ctx and not self.busy:
            self.submit_waiting()
            self.reap(False)
            if self.rider.waiting and self.rider.in_flight == 0:
                self.want()

    def on_event(self):
        """The eventfd is readable."""
        cdef uint64_t count
        read(self.event_fd, &count, sizeof(count))
        self.flush()

    def submit_early(self):
        """Submits now, in the middle of the turn's callbacks."""
        if not self.busy:
            self.submit_waiting()

    def submit_waiting(self):
        """Submits as much as there is room for."""
        cdef Py_ssize_t count, taken, i
        cdef bint may_retry = True
        cdef long result
        self.busy = True
        try:
            while self.rider.waiting:
                count = self.rider.board(self.batch, EVENTS_MAX)
                if count == 0:
                    break
                for i in range(count):
                    self.batch[i].aio_flags |= abi.IOCB_FLAG_RESFD
                    self.batch[i].aio_resfd = self.event_fd
                taken = 0
                while taken < count:
                    with nogil:
                        result = abi.aio_sys_submit(self.ctx, count - taken, self.batch + taken)
                    if result > 0:
                        taken += result
                    elif result != -EAGAIN:
                        self.rider.refuse(self.batch + taken, 1, -result)
                        taken += 1
                    elif may_retry:
                        may_retry = False
                        self.reap(False)
                    else:
                        self.rider.refuse(self.batch + taken, count - taken, EAGAIN)
                        return
        finally:
            self.busy = False

    cdef Py_ssize_t reap(self, bint wait) except -1:
        cdef Py_ssize_t total = 0
        cdef long count, i
        while True:
            if wait:
                with nogil:
                    count = wait_ring(self.ctx, EVENTS_MAX, self.events, -1, &self.use_pgetevents)
            elif self.ring != NULL:
                count = abi.aio_ring_reap(self.ring, self.events, EVENTS_MAX)
            else:
                count = wait_ring(self.ctx, EVENTS_MAX, self.events, 0, &self.use_pgetevents)
            if count < 0 and count != -EINTR:
                raise OSError(-count, f"io_getevents: {os.strerror(-count)}")
            for i in range(count):
                self.rider.complete(&self.events[i])
            total += max(count, 0)
            if wait or count < EVENTS_MAX:
                return total

    def settle(self):
        """Submits what waits, and waits until nothing is in flight."""
        while self.rider.waiting + self.rider.in_flight > 0:
            if self.rider.waiting:
                self.submit_waiting()
            if self.rider.in_flight:
                self.reap(True)

    def close(self):
        """Gives the context and the eventfd back; nothing must be in flight."""
        cdef abi.aio_context_t ctx = self.ctx
        self.ctx = 0
        self.ring = NULL
        if self.event_fd >= 0:
            if not self.loop.is_closed():
                self.loop.remove_reader(self.event_fd)
            close(self.event_fd)
            self.event_fd = -1
        if ctx:
            with nogil:
                abi.aio_sys_destroy(ctx)
