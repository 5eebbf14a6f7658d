"""The reactor on an AIO ring: what is polled where.

Facts.  The result of a poll is of the moment of the wake-up, and is the raw wake key: on a socket
it has bits that were not asked for.  A parked request pins its file: after close(2) the peer sees
no end of file, and a listener goes on accepting.  Some files AIO poll refuses (EINVAL), or never
completes (signalfd).  The end of a connection wakes without a key (sk_state_change): AIO poll then
leaves the completion to a kernel worker (fs/aio.c, aio_poll_wake), which on a busy machine runs
milliseconds later.

Rule.  Only OWNED files are polled by requests of their own, for unregister() comes before their
close(2): it cancels at once and waits for the event.  All others, whatever AIO poll refuses, and
whatever finds no slot, live in the epoll set.  Events are masked with what was asked plus ERR and
HUP.  The end of a file that is polled is in the epoll set as well, edge-triggered, which is woken
at once.  A file that finds no room in the epoll set either (ENOSPC: fs.epoll.max_user_watches) is
reported once, and tried again.  An iteration takes EVENTS_MAX events out of the ring, more if it
has tried more readers unarmed; the event of the epoll set dispatches all that is ready there.  So
each file is served once a round.

Why.  The ring serves many files for one system call; the epoll set takes what the ring must not
have, for one slot.

Cost.  A file that is read at every wake-up is submitted as often.

Failure prevented.  A task waits for a listener by AIO poll; its owner closes it.  The request keeps
it open: clients go on connecting to a server that is gone, and the port stays in use.
"""

cimport cython
from libc.errno cimport EAGAIN, EBADF, EINVAL
from libc.stdint cimport int64_t, uint32_t

from aiopoll.aio cimport abi
from aiopoll.aio.clock cimport clock_ns
from aiopoll.aio.fork_guard cimport fork_guard_use, process_guard
from aiopoll.aio.ring cimport ring_pending
from aiopoll.reactor.reactor cimport (
    EPOLL_CTL_ADD, EPOLL_CTL_MOD, EVENTS_MAX, POLL_ALWAYS, POLL_IN, POLL_OUT, os_error,
    wakeup_drain,
)
from aiopoll.reactor.registration cimport (
    AFTER_EVENT, DETACHED, LEVEL, NO_REQUEST, READ, RING, RING_END, SPECULATING, Registration,
    in_epoll, needs_read,
)
from aiopoll.reactor.request_source cimport SOURCE_TAG
from aiopoll.reactor.ring_reactor cimport (
    CANCELLED_NS, CANCELLED_TRIES, DISPATCH, POLL_IN_FLIGHT, REARM_ONLY, Delivery, RingReactor,
    busy_poll_init, poll_pool_at, poll_pool_find, poll_pool_has_cancelled, poll_pool_release,
    poll_request, traced_ring_cancel,
)
from aiopoll.reactor.trace_buffer cimport TRACE_READY, trace_note

import os

from aiopoll.aio.errors import poll_refused_reason

fork_guard_use(process_guard())

cdef enum:
    RETRY_NS = 100000000  # how often a file is tried again that found room nowhere

cdef inline int asked(int direction) noexcept:
    return POLL_OUT if direction else POLL_IN


cdef class AioReactor(RingReactor):
    """The base of the backends on an AIO ring; by itself it has owned files on the ring alone.

    nr_events: slots to ask of fs.aio-max-nr.
    user_ring: whether to reap from the mapped ring; None for wherever that is possible.
    busy_poll: nanoseconds to look at the ring before sleeping; negative for at most as many, where
        it has been worth it lately (busy_poll.h).
    Raises OSError where the kernel or the sandbox has no AIO poll, or no slots are left.
    """

    def __cinit__(self, *args, **options):
        self.speculation = Speculation.__new__(Speculation)
        self.deferred = []

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

    # Arming and disarming

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

    cdef int move_to_ring(self, Registration registration) except -1:
        cdef int direction
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
            if (traced_ring_cancel(self.trace, &self.ring, &request.iocb) == 0
                    and not self.polling):
                self.wait_cancelled(request)
        return 0

    # Want of room

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
                return self.evict()
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
                uname = os.uname()
                raise OSError(EINVAL, poll_refused_reason(EINVAL, uname.release, uname.version,
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
        self.retry_at_ns = clock_ns() + RETRY_NS
        if not registration.reported:
            registration.reported = True
            self.report(registration.fd, error)
            self.nr_dispatched += 1
        return 0

    cdef int retry_deferred(self) except -1:
        """Queues again the files that were deferred, every RETRY_NS."""
        cdef list deferred = self.deferred
        cdef Registration registration
        cdef int direction
        if clock_ns() < self.retry_at_ns:
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

    cdef bint evict(self) except -1:
        """Frees a slot for one of the two that must be armed; whether it is to be tried at once.

        Their own slots may have gone to the reserve of another CPU (fs/aio.c keeps the free ones
        per CPU), when this thread was moved.  The event of the cancelled poll is there in
        microseconds; what delays it beyond CANCELLED_NS delays the loop so long, and no longer.
        On a busy machine hundreds of such events may be late, and keep all slots: then the next
        iteration tries again.
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
                return True
        if poll_pool_has_cancelled(&self.pool) or (
                self.source is not None and self.source.in_flight > 0):
            self.wait_events(CANCELLED_TRIES * CANCELLED_NS, DISPATCH)
            return False
        raise os_error(EAGAIN, "io_submit: no slot is left for the epoll set")

    # Events

    cdef int complete(self, abi.io_event *event, Delivery delivery) except -1:
        cdef poll_request *request = poll_pool_find(&self.pool, event.data)
        cdef int fd, direction, ready
        cdef Registration registration
        if request == NULL:
            if event.data & SOURCE_TAG and self.source is not None:
                self.ring.counters.completed += 1
                self.nr_dispatched += 1
                self.nr_done += 1
                self.source.complete(event)
            return 0
        fd = request.owner
        direction = request.direction
        poll_pool_release(&self.pool, request)
        self.ring.counters.completed += 1
        if fd < 0:
            return 0
        if self.trace != NULL:
            trace_note(self.trace, TRACE_READY, fd, event.res, 0)
        if self.is_own(fd):
            return self.complete_own(fd, delivery)
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

    cdef int complete_own(self, int fd, Delivery delivery) except -1:
        """Takes the event of the epoll set, or of the wake-up, and polls it again."""
        self.enqueue(fd, 0, POLL_IN)
        if delivery == REARM_ONLY:
            return 0
        if fd == self.epoll_fd:
            return self.poll_epoll_fairly()
        wakeup_drain(&self.wakeup)
        return 0

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

    cdef int poll(self, int64_t timeout_ns) except -1:
        cdef Py_ssize_t nr_speculative = len(self.speculation.next)
        self.begin()
        self.nr_done = 0
        try:
            if self.deferred:
                self.retry_deferred()
            if nr_speculative:
                self.speculate()
            self.submit()
            if timeout_ns == 0 or self.ring.mapped != NULL or self.nr_dispatched:
                # As many as were tried unarmed, if there are: no file is served less often.
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

    cdef bint idle(self) noexcept:
        return (self.ring.mapped != NULL and self.queue.nr == 0 and ring_pending(&self.ring) == 0
                and len(self.speculation.next) == 0 and len(self.deferred) == 0
                and (self.source is None or self.source.waiting == 0)
                and not self.is_forked_child())

    cdef int shutdown(self) except -1:
        RingReactor.shutdown(self)
        self.speculation.next.clear()
        self.deferred.clear()
        return 0

    def statistics(self):
        """The counters, as a ReactorStatistics."""
        return RingReactor.statistics(self)._replace(
            tried=self.speculation.tried, found=self.speculation.found)
