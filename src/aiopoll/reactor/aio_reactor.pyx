"""The reactor on an AIO ring.

Facts.  IOCB_CMD_POLL is one-shot; a request that is ready when it is submitted completes inside
io_submit.  Its result is of the moment of the wake-up, and is the raw wake key: on a socket it
has bits that nobody asked for.  A parked request pins its file: after close(2) the peer sees no
end of file and a listener goes on accepting.  It also holds one of the slots of its context
until its event is reaped.  Some files AIO poll refuses (EINVAL), or never completes (signalfd).
The end of a connection wakes
without a key (sk_state_change): AIO poll then leaves the completion to a kernel worker (fs/aio.c,
aio_poll_wake), which on a busy machine runs milliseconds later.  io_cancel only starts the
cancellation; a kernel worker lets go of the file, and if that is the
last to do so, one jiffy after close(2) at the earliest (fs/file_table.c, delayed fput).

Rule.  Only OWNED files are polled by requests of their own, for unregister() comes before their
close(2): it cancels at once and waits for the event, so that close(2) is the last to let go.  All
others, whatever AIO poll refuses, and whatever finds no slot, live in the epoll set.  A file whose
request has completed is armed again by the io_submit of the next iteration, which makes only one.
Events are masked with what was asked plus ERR and HUP.  The end of a file that is polled is in the
epoll set as well, edge-triggered, which is woken at once.  A file that finds no room in the epoll
set either (ENOSPC: fs.epoll.max_user_watches) is reported once, and tried again.  An iteration
takes EVENTS_MAX events out of the ring, more if it has tried more readers unarmed; the event of
the epoll set dispatches all that is ready there.  So each file is served once a round.

Failure prevented.  A task waits for a listener by AIO poll; its owner closes it.  The request keeps
it open: clients go on connecting to a server that is gone, and the port stays in use.

Why.  Arming in bulk costs less than a system call each; arming late costs nothing for what was
forgotten in between; cancelling late would break the contract of close(2).  The event of a
cancelled request is in the ring when io_cancel returns in 199 of 200 cases: waiting is a look at
memory.

Cost.  Two slots always (the epoll set, the wake-up eventfd), one a direction and owned file.  A file
that is read at every wake-up is submitted as often.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EBADF, EINTR, EINVAL, ENOSYS, EPERM
from libc.stdint cimport int64_t, uint32_t

from aiopoll.aio cimport abi
from aiopoll.aio.context_cache cimport keep_context, open_context
from aiopoll.aio.fork_guard cimport fork_guard_use, process_guard
from aiopoll.aio.ring cimport (
    RING_FULL, RING_REAP, RING_SUBMITTED, RingResult, ring_cancel, ring_detach, ring_init,
    ring_pending, ring_reap, ring_submit, ring_wait,
)
from aiopoll.reactor.reactor cimport (
    EPOLL_CTL_ADD, EPOLL_CTL_MOD, POLL_ALWAYS, POLL_IN, POLL_OUT, Reactor, os_error, wakeup_drain,
)
from aiopoll.reactor.registration cimport (
    AFTER_EVENT, DETACHED, LEVEL, NO_REQUEST, READ, RING, RING_END, SPECULATING, Registration,
    in_epoll, needs_read,
)
from aiopoll.reactor.request_source cimport SOURCE_TAG

import os

from aiopoll.aio.errors import cancel_error, poll_refused_reason, setup_error

fork_guard_use(process_guard())

cdef enum:
    CANCELLED_NS = 1000000  # how long to wait for the event of a cancelled request, and how often
    CANCELLED_TRIES = 8
    RETRY_NS = 100000000  # how often a file is tried again that found room nowhere
    DRAIN_TRIES = 1000  # a record whose event has not come after so many waits is leaked


cdef inline int asked(int direction) noexcept:
    return POLL_OUT if direction else POLL_IN


@cython.final
cdef class AioReactor(Reactor):
    """The backend on an AIO ring.

    nr_events: slots to ask of fs.aio-max-nr.
    user_ring: whether to reap from the mapped ring; None for wherever that is possible.
    busy_poll: nanoseconds to look at the ring before sleeping; negative for at most as many, where
        it has been worth it lately (busy_poll.h).
    Raises OSError where the kernel or the sandbox has no AIO poll, or no slots are left.
    """

    def __cinit__(self, ready, nr_events=512, user_ring=None, busy_poll=0):
        self.speculation = Speculation.__new__(Speculation)
        self.deferred = []
        self.pool.next_free = POLL_POOL_NONE

    def __init__(self, ready, nr_events=512, user_ring=None, busy_poll=0):
        self.backend = "aio"
        if not isinstance(nr_events, int):
            raise TypeError(f"nr_events must be an int, not {type(nr_events).__name__}")
        if not 1 <= nr_events <= 0x400000:
            raise ValueError(f"nr_events must be from 1 to {0x400000}, not {nr_events}")
        busy_poll_init(&self.busy, abs(<int64_t>busy_poll), busy_poll < 0)
        self.open_ring(nr_events, user_ring)

    @property
    def nr_events(self):
        """Slots taken of fs.aio-max-nr."""
        return self.ring.nr_events

    cdef int open_ring(self, unsigned nr_events, object user_ring) except -1:
        cdef abi.aio_context_t ctx
        cdef long result = open_context(nr_events, &ctx)
        cdef poll_request *request
        if result < 0:
            raise setup_error(-result, nr_events)
        if user_ring is None:
            user_ring = os.environ.get("AIOPOLL_USER_RING") != "0"
        ring_init(&self.ring, ctx, nr_events, user_ring)
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
            result = ring_wait(&self.ring, self.events, EVENTS_MAX, 0)
            if result < 0:
                raise os_error(-result, "io_getevents")
            for i in range(result):
                self.complete(&self.events[i], REARM_ONLY)
        except OSError:
            self.shutdown()
            raise
        self.proven = True
        return 0

    def __dealloc__(self):
        cdef abi.aio_context_t ctx = ring_detach(&self.ring)
        if ctx:
            abi.aio_sys_destroy(ctx)
        poll_pool_clear(&self.pool)
        poll_queue_clear(&self.queue)

    # Arming and disarming

    cdef poll_request *enqueue(self, int fd, int direction, int events) except NULL:
        """Queues a request for the next submission."""
        cdef poll_request *request = poll_queue_add(&self.queue, &self.pool, fd, direction, events)
        if request == NULL:
            raise MemoryError
        return request

    cdef bint is_own(self, int fd) noexcept:
        """Whether it is one of the two that must be armed: the epoll set, the wake-up."""
        return fd == self.epoll_fd or fd == self.wakeup.fd

    cdef int arm(self, Registration registration, int direction) except -1:
        registration.requests[direction] = self.enqueue(
            registration.fd, direction, asked(direction)).index
        if registration.state == DETACHED:
            self.enter(registration, RING)
        return 0

    cdef int watch_end(self, Registration registration) except -1:
        cdef uint32_t generation = self.next_generation()
        try:
            if self.control(self.epoll_fd, EPOLL_CTL_ADD, registration, RING_END,
                            generation) < 0 and (
                    self.control(self.epoll_fd, EPOLL_CTL_MOD, registration, RING_END,
                                 generation) < 0):  # an entry of ONCE was left
                return 0
        except OSError:
            return 0  # no room: its end may come late
        registration.generation = generation
        return self.enter(registration, RING_END)

    cdef int own(self, Registration registration) except -1:
        cdef int direction
        Reactor.own(self, registration)
        if in_epoll(registration):
            self.leave_epoll(registration)
            self.enter(registration, RING)
            self.watch_end(registration)
            for direction in range(2):
                if registration.callback(direction) is not None:
                    self.arm(registration, direction)
        return 0

    cdef int disarm(self, Registration registration, int direction) except -1:
        cdef uint32_t index = registration.requests[direction]
        cdef poll_request *request
        if index == NO_REQUEST:
            return 0
        registration.requests[direction] = NO_REQUEST
        request = poll_pool_at(&self.pool, index)
        request.owner = -1
        if request.state == POLL_IN_FLIGHT and not self.is_forked_child():
            # Cancelled, its event has res 0.  It may have completed, too.  Either way one event is
            # to come, and the record waits for it.
            if ring_cancel(&self.ring, &request.iocb) == 0 and not self.polling:
                self.wait_cancelled(request)
        return 0

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

    # Submission

    cdef int submit(self) except -1:
        """Arms what is queued in one io_submit; more only where that one stops short."""
        if self.queue.nr > 0 or (self.source is not None and self.source.waiting > 0):
            self.submit_all(True, DISPATCH)
        return 0

    cdef int submit_source(self) except -1:
        """Submits what the files have waiting, in the middle of an iteration's callbacks."""
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
        """Submits what is queued, and what the files have waiting."""
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
        """Queues again what submit_batch() has not dealt with."""
        cdef long i
        for i in range(self.batch.taken, self.polls):
            if poll_queue_push(&self.queue, (<poll_request *>self.batch.iocbs[i]).index) < 0:
                raise MemoryError
        i = max(self.batch.taken, self.polls)
        if i < self.batch.nr:
            self.source.on_submit_error(self.batch.iocbs + i, self.batch.nr - i, EAGAIN)
        return 0

    cdef int submit_batch(self, Delivery delivery) except -1:
        """Submits the batch; `batch.taken` says how many of it are dealt with.

        delivery: of the events that are reaped where no slot is free.
        """
        cdef RingResult result
        cdef poll_request *request
        cdef long before
        while True:
            before = self.batch.taken
            if self.batch.nr > self.polls:
                with nogil:  # reads and writes take longer, and may block
                    result = ring_submit(&self.ring, &self.batch)
            else:
                result = ring_submit(&self.ring, &self.batch)
            poll_queue_submitted(&self.queue, &self.pool, &self.ring, before,
                                 min(self.batch.taken, self.polls))
            if result == RING_SUBMITTED:
                return 0
            if result == RING_REAP:
                # Without the ring nobody can tell whether there are more: all are taken then.
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

    cdef bint make_room(self) except -1:
        """Deals with a batch for which no slot is left; whether to submit the rest of it again.

        Polls go to the epoll set, what the files want is theirs to repeat.
        """
        cdef poll_request *request
        cdef long before
        if self.batch.taken < self.polls:
            if self.pending():
                return False  # slots come back with the events that later iterations reap
            request = <poll_request *>self.batch.iocbs[self.batch.taken]
            if self.is_own(request.owner):
                self.evict()
                return True
            while self.batch.taken < self.polls:
                request = <poll_request *>self.batch.iocbs[self.batch.taken]
                self.batch.taken += 1
                self.overflowed += 1
                self.on_submit_error(request, EAGAIN)
        if self.batch.nr > self.polls:
            before = self.batch.taken
            self.batch.taken = self.batch.nr
            self.source.on_submit_error(self.batch.iocbs + before, self.batch.nr - before, EAGAIN)
        return False

    cdef int on_submit_error(self, poll_request *request, long error) except -1:
        """Puts the file of a request that was not taken into the epoll set."""
        cdef int fd = request.owner, direction = request.direction
        cdef Registration registration
        poll_pool_release(&self.pool, request)
        if fd < 0:
            return 0
        if self.is_own(fd):
            self.enqueue(fd, 0, POLL_IN)  # nothing goes without it
            if error == EINVAL:
                raise OSError(EINVAL, poll_refused_reason(EINVAL, os.uname().release,
                                                          "an epoll set"))
            raise os_error(error, "io_submit")
        registration = self.find(fd)
        if registration is None:
            return 0
        registration.requests[direction] = NO_REQUEST
        if error == EBADF or in_epoll(registration):
            return 0  # closed without unregister(): never ready again
        if error != EAGAIN and error != EINVAL:
            return self.defer(registration, os_error(error, "io_submit"))
        try:
            self.move_to_epoll(registration, LEVEL)
        except OSError as failure:
            return 0 if failure.errno == EBADF else self.defer(registration, failure)
        self.disarm(registration, 1 - direction)
        return 0

    cdef int defer(self, Registration registration, object error) except -1:
        """Defers a file for which neither a slot nor epoll space is left; reports it once."""
        self.deferred.append(registration)
        self.retry_at_ns = busy_poll_clock() + RETRY_NS
        if not registration.reported:
            registration.reported = True
            self.report(registration.fd, error)
            self.nr_dispatched += 1
        return 0

    cdef int retry_deferred(self) except -1:
        """Queues again what was deferred, every RETRY_NS."""
        cdef list deferred = self.deferred
        cdef Registration registration
        cdef int direction
        if busy_poll_clock() < self.retry_at_ns:
            return 0
        self.deferred = []
        for registration in deferred:
            if in_epoll(registration) or self.find(registration.fd) is not registration:
                continue
            for direction in range(2):
                if registration.callback(direction) is not None and (
                        registration.requests[direction] == NO_REQUEST):
                    self.arm(registration, direction)
        return 0

    cdef int evict(self) except -1:
        """Frees a slot for one of the two that must be armed.

        Their own slots may have gone to the reserve of another CPU (fs/aio.c keeps the free ones
        per CPU), when this thread was moved.  The event of the cancelled poll is there in
        microseconds; what delays it beyond CANCELLED_NS delays the loop so long, and no longer.
        """
        cdef poll_request *request
        cdef Registration registration
        cdef int direction
        for registration in self.registrations:
            if registration is None or in_epoll(registration):
                continue
            for direction in range(2):
                if registration.requests[direction] == NO_REQUEST:
                    continue
                request = poll_pool_at(&self.pool, registration.requests[direction])
                if request.state != POLL_IN_FLIGHT:
                    continue
                self.move_to_epoll(registration, LEVEL)  # first: it may fail
                self.disarm(registration, 0)
                self.disarm(registration, 1)
                self.overflowed += 1
                self.wait_events(CANCELLED_TRIES * CANCELLED_NS, DISPATCH)
                return 0
        raise os_error(EAGAIN, "io_submit: no slot is left for the epoll set")

    # Completion

    cdef int wait_events(self, int64_t timeout_ns, Delivery delivery) except -1:
        """Waits by system call, without the GIL, and completes what has come by then."""
        cdef long count, i
        with nogil:
            count = ring_wait(&self.ring, self.events, EVENTS_MAX, timeout_ns)
        if count < 0 and count != -EINTR:
            raise os_error(-count, "io_getevents")
        for i in range(count):
            self.complete(&self.events[i], delivery)
        return count

    cdef Py_ssize_t reap_some(self, Delivery delivery) except -1:
        """Completes up to EVENTS_MAX of what has happened, without waiting; returns how many."""
        cdef long count = ring_reap(&self.ring, self.events, EVENTS_MAX)
        cdef long i
        if count < 0 and count != -EINTR:
            raise os_error(-count, "io_getevents")
        for i in range(count):
            self.complete(&self.events[i], delivery)
        return max(count, 0)

    cdef Py_ssize_t reap(self, Delivery delivery) except -1:
        """Completes all that has happened, without waiting; returns the number of events."""
        cdef Py_ssize_t total = 0, count = EVENTS_MAX
        while count == EVENTS_MAX:
            count = self.reap_some(delivery)
            total += count
        return total

    cdef int complete(self, abi.io_event *event, Delivery delivery) except -1:
        cdef poll_request *request = poll_pool_find(&self.pool, event.data)
        cdef int fd, direction, ready
        cdef Registration registration
        if request == NULL:
            if event.data & SOURCE_TAG and self.source is not None:
                self.ring.counters.completed += 1
                self.nr_dispatched += 1
                self.source.complete(event)
            return 0
        fd = request.owner
        direction = request.direction
        poll_pool_release(&self.pool, request)
        self.ring.counters.completed += 1
        if fd < 0:
            return 0
        if self.is_own(fd):
            self.enqueue(fd, 0, POLL_IN)
            if delivery == REARM_ONLY:
                return 0
            if fd == self.epoll_fd:
                return self.poll_epoll_fairly()
            wakeup_drain(&self.wakeup)
            return 0
        registration = self.find(fd)
        if registration is None:
            return 0
        registration.requests[direction] = NO_REQUEST
        ready = <int>event.res & (asked(direction) | POLL_ALWAYS)
        if ready and delivery != REARM_ONLY:
            self.dispatch(registration, direction)
            if registration.reading != AFTER_EVENT and direction == READ:
                return 0  # the reader calls read_done()
        else:
            self.stale += delivery != REARM_ONLY
        return self.arm(registration, direction)

    cdef int poll_epoll_fairly(self) except -1:
        """Dispatches all that is ready in the epoll set.

        It has one event in each round of the ring, as a file with a slot has: if that stood for a
        part of them only, the others would be served less often.
        """
        if self.poll_epoll(0) == self.epoll_room and self.epoll_room < self.nr_in_epoll:
            self.reserve_epoll_events(min(2 * self.epoll_room, self.nr_in_epoll))
        return 0

    cdef int read_done(self, Registration registration, bint hit) except -1:
        if self.speculation.read_done(registration, hit):
            return self.arm(registration, READ)
        return 0

    cdef int speculate(self) except -1:
        """Dispatches, unarmed, the readers that found something in the last iteration."""
        cdef Registration registration
        for registration in self.speculation.take():
            if needs_read(registration):
                registration.reading = SPECULATING
                self.dispatch(registration, READ)
        return 0

    # The iteration

    cdef int poll(self, int64_t timeout_ns) except -1:
        cdef Py_ssize_t nr_speculative = len(self.speculation.next)
        self.check_process()
        if self.polling:
            raise RuntimeError("the reactor is in use")
        self.polling = True
        self.iterations += 1
        self.nr_dispatched = 0
        try:
            if self.deferred:
                self.retry_deferred()
            if nr_speculative:
                self.speculate()
            self.submit()
            if timeout_ns == 0 or self.ring.mapped != NULL or self.nr_dispatched:
                # As many as were tried unarmed, if there are: nobody is served less often.
                while self.reap_some(DISPATCH) == EVENTS_MAX and nr_speculative > EVENTS_MAX:
                    nr_speculative -= EVENTS_MAX
            if timeout_ns != 0 and self.nr_dispatched == 0 and self.queue.nr == 0:
                if self.deferred and not 0 < timeout_ns < RETRY_NS:
                    timeout_ns = RETRY_NS
                self.sleep(timeout_ns)
        finally:
            self.after_sleep()
            self.polling = False
        return 0

    cdef int sleep(self, int64_t timeout_ns) except -1:
        cdef _Bool slept
        cdef long count, i
        self.sleeps += 1
        with nogil:
            count = busy_poll_wait(&self.busy, &self.ring, self.events, EVENTS_MAX, timeout_ns,
                                   &slept)
        self.sleeps -= not slept
        self.after_sleep()
        if count == -EINTR:
            PyErr_CheckSignals()
            return 0
        if count < 0:
            raise os_error(-count, "io_getevents")
        for i in range(count):
            self.complete(&self.events[i], DISPATCH)
        return 0

    cdef int drain(self) except -1:
        """Submits what the files have waiting, and waits until they have nothing in flight."""
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

    cdef bint idle(self) noexcept:
        return (self.ring.mapped != NULL and self.queue.nr == 0 and ring_pending(&self.ring) == 0
                and len(self.speculation.next) == 0 and len(self.deferred) == 0
                and (self.source is None or self.source.waiting == 0)
                and not self.is_forked_child())

    # The end

    cdef Py_ssize_t count_leaked(self) except? -1:
        self.cancel_all_and_drain()
        return poll_pool_nr_taken(&self.pool)

    cdef int cancel_all_and_drain(self) except -1:
        """Cancels all polls, and takes their events, which come in microseconds.

        After DRAIN_TRIES waits of CANCELLED_NS it gives up: a context with requests in flight is
        destroyed, not kept.
        """
        cdef Registration registration
        cdef int tries
        self.polling = True  # disarm() does not wait for each one then
        try:
            for registration in self.registrations:
                if registration is not None:
                    self.disarm(registration, 0)
                    self.disarm(registration, 1)
            poll_pool_cancel(&self.pool, &self.ring, self.epoll_fd)
            poll_pool_cancel(&self.pool, &self.ring, self.wakeup.fd)
            self.take_queue(0)
            for tries in range(DRAIN_TRIES):
                if not self.pool.in_flight:
                    break
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
        self.speculation.next.clear()
        self.deferred.clear()
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
            ring_reaps=self.ring.counters.ring_reaps, tried=self.speculation.tried,
            user_ring=self.ring.mapped != NULL, found=self.speculation.found, busy_polls=self.busy.spins,
            busy_poll_hits=self.busy.hits)


cdef bint is_reusable(AioReactor reactor) except -1:
    """Whether nothing is in flight and nothing in the ring, once all was cancelled.

    A context that has refused its first polls is no use to anyone.
    """
    return (reactor.proven and reactor.ring.mapped != NULL
            and reactor.pool.in_flight <= EVENTS_MAX
            and (reactor.source is None or reactor.source.waiting + reactor.source.in_flight == 0)
            and reactor.count_leaked() == 0 and ring_pending(&reactor.ring) == 0)
