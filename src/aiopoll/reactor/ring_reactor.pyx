"""A reactor's ring: polls and the requests of files go in, events come out.

Facts.  IOCB_CMD_POLL is one-shot; a request that is ready when it is submitted completes inside
io_submit.  A parked request pins its file, and holds one of the slots of its context until its
event is reaped.  io_cancel only starts the cancellation; a kernel worker lets go of the file, and
if that is the last to do so, one jiffy after close(2) at the earliest (fs/file_table.c, delayed
fput).

Rule.  One io_submit an iteration arms the queued polls, and takes the files' requests along.  A
cancellation waits for its event, so that close(2) is the last to let go of a file.  Two polls are
always armed: of the epoll set, and of the wake-up.  The class above decides about a
request that the kernel refuses, or that finds no slot (aio_reactor.pyx).

Why.  Arming in bulk costs less than a system call each; arming late costs nothing for files that
were forgotten in between; cancelling late would break the contract of close(2).  The event of a
cancelled request is in the ring when io_cancel returns in 199 of 200 cases: waiting is a look at
memory.

Cost.  Two slots always, one a direction and file that is polled.

Failure prevented.  A batch stops at its third request.  Those behind it, if they were forgotten,
would never be armed: their connections hang.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, EINVAL, ENOSYS, EPERM
from libc.stdint cimport int64_t, uint32_t

from aiopoll.aio cimport abi
from aiopoll.aio.clock cimport clock_ns
from aiopoll.aio.context_cache cimport keep_context, open_context
from aiopoll.aio.fork_guard cimport fork_guard_use, process_guard
from aiopoll.aio.ring cimport (
    RING_FULL, RING_REAP, RING_SUBMITTED, RingResult, ring_cancel, ring_detach, ring_init,
    ring_pending, ring_wait,
)
from aiopoll.reactor.reactor cimport POLL_IN, Reactor, os_error
from aiopoll.reactor.registration cimport Registration
from aiopoll.reactor.trace_buffer cimport TRACE_ARMED, trace_note

import os

from aiopoll.aio.errors import cancel_error, setup_error

fork_guard_use(process_guard())

cdef int64_t DRAIN_NS = 5000000000


cdef class RingReactor(Reactor):
    """The mechanism of the backend on an AIO ring."""

    def __cinit__(self, *args, **options):
        self.pool.next_free = POLL_POOL_NONE

    cdef int open_ring(self, unsigned nr_events, object user_ring) except -1:
        cdef abi.aio_context_t ctx
        cdef long result
        cdef poll_request *request
        cdef bint want_mapped
        if user_ring is None:
            user_ring = os.environ.get("AIOPOLL_USER_RING") != "0"
        want_mapped = user_ring
        # No Python code, which an interrupt could end, runs until the ring owns the context.
        result = open_context(nr_events, &ctx)
        if result < 0:
            raise setup_error(-result, nr_events)
        ring_init(&self.ring, ctx, nr_events, want_mapped)
        try:
            # Both stay armed from here on; that they can be is the test for AIO poll.
            self.enqueue(self.epoll_fd, 0, POLL_IN)
            request = self.enqueue(self.wakeup.fd, 0, POLL_IN)
            self.submit()
            # Its event arms it again.  What cannot be cancelled must not be polled at all.
            result = ring_cancel(&self.ring, &request.iocb)
            self.ring.counters.cancelled = 0  # counts what the program asked for
            if result == -EPERM or result == -ENOSYS:
                raise cancel_error(-result, "the first poll", False)
            self.complete_all(ring_wait(&self.ring, self.events, EVENTS_MAX, 0), REARM_ONLY)
        except OSError:
            self.shutdown()
            raise
        self.proven = True
        return 0

    def __dealloc__(self):
        cdef abi.aio_context_t ctx = ring_detach(&self.ring)
        if ctx:
            with nogil:
                abi.aio_sys_destroy(ctx)
        poll_pool_clear(&self.pool)
        poll_queue_clear(&self.queue)

    # For the policy

    cdef bint make_room(self) except -1:
        """Deals with a batch for which no slot is left; whether to submit the rest of it again."""
        raise NotImplementedError

    cdef int on_submit_error(self, poll_request *request, long error) except -1:
        """Deals with a request that the kernel has refused."""
        raise NotImplementedError

    cdef int complete(self, abi.io_event *event, Delivery delivery) except -1:
        """Takes an event."""
        raise NotImplementedError

    # Submission

    cdef poll_request *enqueue(self, int fd, int direction, int events) except NULL:
        """Queues a request for the next submission."""
        cdef poll_request *request = poll_queue_add(&self.queue, &self.pool, fd, direction, events)
        if request == NULL:
            raise MemoryError
        return request

    cdef bint is_own(self, int fd) noexcept:
        """Whether it is one of the two that must be armed: the epoll set, the wake-up."""
        return fd == self.epoll_fd or fd == self.wakeup.fd

    cdef int submit(self) except -1:
        """Arms the queued polls in one io_submit; more only where that one stops short."""
        if self.queue.nr > 0 or (self.source is not None and self.source.waiting > 0):
            self.submit_all(True, DISPATCH)
        return 0

    cdef int submit_source(self) except -1:
        """Submits the waiting requests of the files, in the middle of an iteration's callbacks."""
        if self.polling:
            return 0
        self.polling = True
        try:
            self.submit_all(False, REARM_ONLY)
        finally:
            self.polling = False
        return 0

    cdef int take_queue(self, uint32_t more) except -1:
        """Moves the queue into the batch, which has room for `more` behind it."""
        self.polls = poll_queue_take(&self.queue, &self.pool, self.epoll_fd, self.wakeup.fd, more)
        if self.polls < 0:
            raise MemoryError
        return 0

    cdef int submit_all(self, bint with_polls, Delivery delivery) except -1:
        """Submits the queued polls, and the waiting requests of the files."""
        cdef bint with_source = self.source is not None and self.source.waiting > 0
        self.polls = 0
        if with_polls:
            self.take_queue(EVENTS_MAX if with_source else 0)
        elif poll_queue_reserve(&self.queue, EVENTS_MAX) < 0:
            raise MemoryError
        self.batch.iocbs = self.queue.batch
        self.batch.nr = self.polls
        self.batch.taken = 0
        self.batch.reaped = False
        try:
            if with_source:
                self.batch.nr += self.source.fill_batch(self.queue.batch + self.polls, EVENTS_MAX)
            self.submit_batch(delivery)
        finally:
            self.put_back()
        return 0

    cdef int put_back(self) except -1:
        """Queues again the polls that submit_batch() has not dealt with."""
        cdef long i
        for i in range(self.batch.taken, self.polls):
            if poll_queue_push(&self.queue, (<poll_request *>self.batch.iocbs[i]).index) < 0:
                raise MemoryError
        i = max(self.batch.taken, self.polls)
        if i < self.batch.nr:
            self.source.on_submit_error(self.batch.iocbs + i, self.batch.nr - i, EAGAIN)
        return 0

    cdef int submit_batch(self, Delivery delivery) except -1:
        """Submits the batch; `batch.taken` is how many of it are dealt with.

        delivery: of the events that are reaped where no slot is free.
        """
        cdef RingResult result
        cdef poll_request *request
        cdef long before
        while True:
            before = self.batch.taken
            if self.batch.nr > self.polls:
                with nogil:  # reads and writes take longer, and may block
                    result = traced_submit(self.trace, &self.ring, &self.batch)
            else:
                result = traced_submit(self.trace, &self.ring, &self.batch)
            if self.trace != NULL:
                self.trace_armed(before, min(self.batch.taken, self.polls))
            poll_queue_submitted(&self.queue, &self.pool, &self.ring, before,
                                 min(self.batch.taken, self.polls))
            if result == RING_SUBMITTED:
                return 0
            if result == RING_REAP:
                # Without the mapped ring it is not known whether there are more: all are taken.
                if self.ring.mapped != NULL:
                    self.reap_some(delivery)
                else:
                    self.reap(delivery)
            elif result == RING_FULL:
                if not self.make_room():
                    return 0
            elif self.batch.taken < self.polls:
                request = <poll_request *>self.batch.iocbs[self.batch.taken]
                self.batch.taken += 1
                self.refused += self.batch.error == EINVAL
                self.on_submit_error(request, self.batch.error)
            else:
                self.batch.taken += 1
                self.source.on_submit_error(self.batch.iocbs + self.batch.taken - 1, 1,
                                            self.batch.error)

    cdef int trace_armed(self, long first, long last) except -1:
        """Records the polls that io_submit has taken."""
        cdef poll_request *request
        cdef long i
        for i in range(first, last):
            request = <poll_request *>self.queue.batch[i]
            trace_note(self.trace, TRACE_ARMED, request.iocb.aio_fildes,
                       <int64_t>request.iocb.aio_buf, 0)
        return 0

    # Events

    cdef int wait_cancelled(self, poll_request *request) except -1:
        """Waits for the event of a request that was cancelled.

        Other events that come are not dispatched: their files are armed again by this iteration's
        submission, which would dispatch once more before the first call has run.
        """
        cdef uint32_t generation = request.generation
        cdef int tries
        self.polling = True
        try:
            for tries in range(CANCELLED_TRIES):
                self.reap(REARM_ONLY)
                if request.generation != generation:
                    break
                self.wait_events(CANCELLED_NS, REARM_ONLY)
        finally:
            self.polling = False
        return 0

    @cython.final
    cdef Py_ssize_t complete_all(self, long count, Delivery delivery) except -1:
        """Completes the events that a call has taken; raises what its -errno says but for EINTR."""
        cdef long i
        if count < 0 and count != -EINTR:
            raise os_error(-count, "io_getevents")
        for i in range(count):
            self.complete(&self.events[i], delivery)
        return max(count, 0)

    cdef int wait_events(self, int64_t timeout_ns, Delivery delivery) except -1:
        """Waits by system call, without the GIL, and completes the events that have come."""
        cdef long count
        with nogil:
            count = traced_ring_wait(self.trace, &self.ring, self.events, EVENTS_MAX, timeout_ns)
        self.complete_all(count, delivery)
        return 0

    cdef Py_ssize_t reap_some(self, Delivery delivery) except -1:
        """Completes up to EVENTS_MAX events, without waiting; returns how many."""
        return self.complete_all(
            traced_ring_reap(self.trace, &self.ring, self.events, EVENTS_MAX), delivery)

    cdef Py_ssize_t reap(self, Delivery delivery) except -1:
        """Completes all events, without waiting; returns their number."""
        cdef Py_ssize_t total = 0, count = EVENTS_MAX
        while count == EVENTS_MAX:
            count = self.reap_some(delivery)
            total += count
        return total

    cdef int sleep(self, int64_t timeout_ns) except -1:
        cdef _Bool slept
        cdef long count
        self.sleeps += 1
        with nogil:
            count = busy_poll_wait(&self.busy, &self.ring, self.events, EVENTS_MAX, timeout_ns,
                                   &self.sleep_time, &slept, self.trace)
        self.sleeps -= not slept
        self.after_sleep()
        if count == -EINTR:
            PyErr_CheckSignals()
        self.complete_all(count, DISPATCH)
        return 0

    cdef int drain(self) except -1:
        """Submits the waiting requests of the files, and waits until none is in flight."""
        if self.polling:
            raise RuntimeError("the reactor is in use")
        self.check_process()
        self.polling = True
        try:
            while self.source.waiting + self.source.in_flight > 0:
                if self.source.waiting:
                    self.submit()
                if self.reap(REARM_ONLY) == 0 and self.source.in_flight > 0:
                    self.wait_events(-1, REARM_ONLY)
        finally:
            self.polling = False
        return 0

    cdef bint pending(self) noexcept:
        return ring_pending(&self.ring) > 0

    # The end

    cdef Py_ssize_t count_leaked(self) except? -1:
        self.cancel_all_and_drain()
        return poll_pool_nr_taken(&self.pool)

    cdef int cancel_all_and_drain(self) except -1:
        """Cancels all polls, and takes their events, which come in microseconds.

        After DRAIN_NS it gives up: a context with requests in flight is destroyed, not kept.
        """
        cdef Registration registration
        cdef int64_t end_ns = clock_ns() + DRAIN_NS
        self.polling = True  # disarm() does not wait for each one then
        try:
            for registration in self.registrations:
                if registration is not None:
                    self.disarm(registration, 0)
                    self.disarm(registration, 1)
            poll_pool_cancel(&self.pool, &self.ring, self.epoll_fd, self.wakeup.fd)
            self.take_queue(0)
            while self.pool.in_flight and clock_ns() < end_ns:
                self.wait_events(CANCELLED_NS, REARM_ONLY)
        finally:
            self.polling = False
        return 0

    cdef int shutdown(self) except -1:
        cdef bint reusable = not self.is_forked_child() and is_reusable(self)
        cdef unsigned nr_events = self.ring.nr_events
        cdef abi.aio_context_t ctx = ring_detach(&self.ring)
        self.queue.nr = 0
        if ctx and not (reusable and keep_context(ctx, nr_events)):
            with nogil:
                abi.aio_sys_destroy(ctx)
        poll_pool_clear(&self.pool)
        return 0

    def statistics(self):
        """The counters, as a ReactorStatistics."""
        return Reactor.statistics(self)._replace(
            stale=self.stale, refused=self.refused, overflowed=self.overflowed,
            nr_events=self.ring.nr_events, submitted=self.ring.counters.submitted,
            completed=self.ring.counters.completed,
            in_flight=self.pool.in_flight + (0 if self.source is None else self.source.in_flight),
            cancelled=self.ring.counters.cancelled,
            submit_calls=self.ring.counters.submit_calls,
            getevents_calls=self.ring.counters.getevents_calls,
            ring_reaps=self.ring.counters.ring_reaps, user_ring=self.ring.mapped != NULL,
            busy_polls=self.busy.spins, busy_poll_hits=self.busy.hits)


cdef bint is_reusable(RingReactor reactor) except -1:
    """Whether nothing is in flight and nothing in the ring, once all was cancelled.

    A context that has refused its first polls is no use to anyone.
    """
    return (reactor.proven and reactor.ring.mapped != NULL
            and reactor.pool.in_flight <= EVENTS_MAX
            and (reactor.source is None or reactor.source.waiting + reactor.source.in_flight == 0)
            and reactor.count_leaked() == 0 and ring_pending(&reactor.ring) == 0)
