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

Rule.  Only OWNED files are polled by requests of their own, for unwatch() comes before their
close(2): it cancels at once and waits for the event, so that close(2) is the last to let go.  All
others, whatever AIO poll refuses, and whatever finds no slot, live in the epoll set.  A watch whose
request has completed is armed again in the next turn's io_submit, of which there is one a turn.
Events are masked with what was asked plus ERR and HUP.  Its end is watched for in the epoll set as
well, edge-triggered, which is woken at once.  A file that finds no room in the epoll set
either (ENOSPC: fs.epoll.max_user_watches) is reported once, and tried again.  A turn takes EVENTS_MAX
events out of the ring, more if it has tried more readers unarmed; the event of the epoll set hands
over all that is ready there.  So each file has its turn once a round.

Failure prevented.  A task waits for a listener by AIO poll; its owner closes it.  The request keeps
it open: clients go on connecting to a server that is gone, and the port stays in use.

Why.  Arming in bulk costs less than a system call each; arming late costs nothing for what was
unwatched in between; cancelling late would break the contract of close(2).  The event of a
cancelled request is in the ring when io_cancel returns in 199 of 200 cases: waiting is a look at
memory.

Cost.  Two slots always (the epoll set, the wake-up eventfd), one a direction and owned file.  A file
that is read at every wake-up is submitted as often.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport EAGAIN, EBADF, EINPROGRESS, EINTR, EINVAL, ENOSYS, EPERM
from libc.stdint cimport int64_t, uint32_t, uint64_t

from aiopoll.aio cimport abi
from aiopoll.aio.context_cache cimport keep_context, release_contexts, take_context
from aiopoll.reactor.reactor cimport (
    EAGER, EPOLL_CTL_ADD, EPOLL_CTL_MOD, NO_REQUEST, POLL_ALWAYS, POLL_IN, POLL_OUT, READ, TRYING, Reactor, Watch, os_error,
)

import os

from aiopoll.aio.errors import cancel_error, poll_refused_reason, setup_error

cdef extern from "speculation.h" nogil:
    bint speculation_due(speculation *speculation)
    void speculation_tried(speculation *speculation, bint hit)

cdef enum:
    SETTLE_NS = 1000000  # how long to wait for the event of a cancelled request, and how often
    SETTLE_TRIES = 8
    RETRY_NS = 100000000  # how often a file is tried again that found room nowhere
    LOST_TRIES = 1000  # a record whose event has not come after so many is lost


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
        self.eager = []
        self.postponed = []
        self.pool.next_free = POLL_POOL_NONE
        self.use_pgetevents = 1

    def __init__(self, ready, nr_events=512, user_ring=None, busy_poll=0):
        self.backend = "aio"
        if not isinstance(nr_events, int):
            raise TypeError(f"nr_events must be an int, not {type(nr_events).__name__}")
        if not 1 <= nr_events <= 0x400000:
            raise ValueError(f"nr_events must be from 1 to {0x400000}, not {nr_events}")
        self.nr_events = nr_events
        busy_poll_init(&self.busy, abs(<int64_t>busy_poll), busy_poll < 0)
        self.open_ring(user_ring)

    cdef int open_ring(self, object user_ring) except -1:
        cdef long result = 0
        cdef poll_request *request
        self.ctx = take_context(self.nr_events)
        if not self.ctx:
            result = abi.aio_sys_setup(self.nr_events, &self.ctx)
        if result == -EAGAIN:
            release_contexts()
            self.ctx = 0
            result = abi.aio_sys_setup(self.nr_events, &self.ctx)
        if result < 0:
            self.ctx = 0
            raise setup_error(-result, self.nr_events)
        if user_ring is None:
            user_ring = os.environ.get("AIOPOLL_USER_RING") != "0"
        self.ring = abi.aio_ring_of(self.ctx) if user_ring else NULL
        try:
            # Both stay armed from here on; that they can be is the test for AIO poll.
            self.enqueue(self.epoll_fd, 0, POLL_IN)
            self.enqueue(self.wake_fd, 0, POLL_IN)
            request = poll_pool_at(&self.pool, self.queue[self.queued - 1])
            self.submit()
            # Its event arms it again.  What cannot be cancelled must not be polled at all.
            result = abi.aio_sys_cancel(self.ctx, &request.iocb)
            if result == -EPERM or result == -ENOSYS:
                raise cancel_error(-result, "the first poll", False)
            result = wait_ring(self.ctx, EVENTS_MAX, self.events, 0, &self.use_pgetevents)
            if result < 0:
                raise os_error(-result, "io_getevents")
            for i in range(result):
                self.complete(&self.events[i], ONLY_ARM)
        except OSError:
            self.shut()
            raise
        self.proven = True
        return 0

    def __dealloc__(self):
        if self.ctx and not self.is_foreign():
            abi.aio_sys_destroy(self.ctx)
        poll_pool_clear(&self.pool)
        PyMem_Free(self.queue)
        PyMem_Free(self.batch)

    cdef int reserve_queue(self) except -1:
        """Makes room in the queue for one more."""
        cdef Py_ssize_t room
        if self.queued == self.queue_room:
            room = max(64, self.queue_room * 2)
            memory = PyMem_Realloc(self.queue, room * sizeof(uint32_t))
            if memory == NULL:
                raise MemoryError
            self.queue = <uint32_t *>memory
            self.queue_room = room
        return 0

    cdef int enqueue(self, int fd, int direction, int events) except -1:
        """Queues a request for the next submission, as the last one of `queue`."""
        cdef poll_request *request
        self.reserve_queue()
        request = poll_pool_take(&self.pool, fd, direction, events)
        if request == NULL:
            raise MemoryError
        self.queue[self.queued] = request.index
        self.queued += 1
        return 0

    cdef int arm(self, Watch watch, int direction) except -1:
        self.enqueue(watch.fd, direction, asked(direction))
        watch.requests[direction] = self.queue[self.queued - 1]
        return 0

    cdef int watch_end(self, Watch watch) except -1:
        watch.generation = self.generation = self.generation + 1 or 1
        watch.end_in_epoll = True
        try:
            if (self.control(self.epoll_fd, watch, EPOLL_CTL_ADD) == 0
                    or self.control(self.epoll_fd, watch, EPOLL_CTL_MOD) == 0):  # of ONCE
                return 0
        except OSError:
            pass  # no room: its end may come late
        watch.end_in_epoll = False
        return 0

    cdef int own(self, Watch watch) except -1:
        cdef int direction
        Reactor.own(self, watch)
        if watch.nested:
            self.leave_epoll(watch)
            self.watch_end(watch)
            for direction in range(2):
                if watch.target(direction) is not None:
                    self.arm(watch, direction)
        return 0

    cdef int disarm(self, Watch watch, int direction) except -1:
        cdef uint32_t index = watch.requests[direction]
        cdef poll_request *request
        if index == NO_REQUEST:
            return 0
        watch.requests[direction] = NO_REQUEST
        request = poll_pool_at(&self.pool, index)
        request.owner = -1
        if request.state == POLL_IN_FLIGHT and not self.is_foreign():
            # EINPROGRESS: cancelled, its event has res 0.  EINVAL: it has completed.  Either way
            # one event is to come, and the record waits for it.
            if abi.aio_sys_cancel(self.ctx, &request.iocb) == -EINPROGRESS:
                self.cancelled += 1
                if not self.in_turn:
                    self.settle(request)
        return 0

    cdef int settle(self, poll_request *request) except -1:
        """Waits for the event of a request that was cancelled.

        Other events that come are not handed over: their files are armed again in this turn's
        submission, which would hand over once more before the first call has run.
        """
        cdef uint32_t generation = request.generation
        cdef long count, i
        cdef int tries
        self.in_turn = True
        try:
            for tries in range(SETTLE_TRIES):
                self.reap(ONLY_ARM)
                if request.generation != generation:
                    break
                with nogil:
                    count = wait_ring(self.ctx, EVENTS_MAX, self.events, SETTLE_NS,
                                      &self.use_pgetevents)
                self.getevents_calls += 1
                for i in range(count):
                    self.complete(&self.events[i], ONLY_ARM)
        finally:
            self.in_turn = False
        return 0

    cdef int reserve_batch(self, Py_ssize_t room) except -1:
        if self.batch_room < room:
            memory = PyMem_Realloc(self.batch, room * sizeof(abi.iocb *))
            if memory == NULL:
                raise MemoryError
            self.batch = <abi.iocb **>memory
            self.batch_room = room
        return 0

    cdef Py_ssize_t take_queue(self) except -1:
        """Moves the queue into `batch`, without what was unwatched; answers how many there are."""
        cdef Py_ssize_t i, count = 0, core = 0
        cdef poll_request *request
        self.reserve_batch(self.queue_room)
        for i in range(self.queued):
            request = poll_pool_at(&self.pool, self.queue[i])
            if request.owner < 0:
                poll_pool_release(&self.pool, request)
                continue
            self.batch[count] = &request.iocb
            if request.owner == self.epoll_fd or request.owner == self.wake_fd:
                # First: without a slot for the epoll set nothing could overflow into it.
                self.batch[count] = self.batch[core]
                self.batch[core] = &request.iocb
                core += 1
            count += 1
        self.queued = 0
        return count

    cdef int submit(self) except -1:
        """Arms what is queued in one io_submit; more only where that one stops short.

        What was not submitted is queued again.
        """
        if self.queued > 0 or (self.rider is not None and self.rider.waiting > 0):
            self.submit_all(self.take_queue(), HAND_OVER)
        return 0

    cdef int submit_rider(self) except -1:
        """Submits what the rider has waiting, in the middle of the turn's callbacks."""
        if self.in_turn:
            return 0
        self.in_turn = True
        try:
            self.submit_all(0, ONLY_ARM)
        finally:
            self.in_turn = False
        return 0

    cdef int submit_all(self, Py_ssize_t polls, Delivery delivery) except -1:
        """Submits the first `polls` of `batch`, and what the rider has waiting."""
        cdef Py_ssize_t count = polls
        self.taken = 0
        try:
            if self.rider is not None and self.rider.waiting > 0:
                self.reserve_batch(polls + EVENTS_MAX)
                count += self.rider.board(self.batch + polls, EVENTS_MAX)
            self.submit_batch(polls, count, delivery)
        finally:
            self.put_back(polls, count)
        return 0

    cdef int put_back(self, Py_ssize_t polls, Py_ssize_t count) except -1:
        """Queues again what submit_batch() has not dealt with."""
        cdef Py_ssize_t i
        for i in range(self.taken, polls):
            self.reserve_queue()
            self.queue[self.queued] = (<poll_request *>self.batch[i]).index
            self.queued += 1
        i = max(self.taken, polls)
        if i < count:
            self.rider.refuse(self.batch + i, count - i, EAGAIN)
        return 0

    cdef int submit_batch(self, Py_ssize_t polls, Py_ssize_t count, Delivery delivery) except -1:
        """Submits `batch`, whose first `polls` are ours; `taken` says how many are dealt with.

        delivery: of the events that are reaped where no slot is free.
        """
        cdef Py_ssize_t taken = 0, i
        cdef poll_request *request
        cdef bint may_retry = True
        cdef long result
        while taken < count:
            if count > polls:
                with nogil:  # reads and writes take longer, and may block
                    result = abi.aio_sys_submit(self.ctx, count - taken, self.batch + taken)
            else:
                result = abi.aio_sys_submit(self.ctx, count - taken, self.batch + taken)
            self.submit_calls += 1
            if result > 0:
                for i in range(taken, min(taken + result, polls)):
                    request = <poll_request *>self.batch[i]
                    request.state = POLL_IN_FLIGHT
                    if request.owner < 0:  # its file went to the epoll set meanwhile
                        abi.aio_sys_cancel(self.ctx, &request.iocb)
                self.pool.in_flight += max(0, min(result, polls - taken))
                self.submitted += result
                taken += result
                self.taken = taken
                continue
            request = <poll_request *>self.batch[taken]
            if result == -EAGAIN:
                if may_retry:
                    may_retry = False
                    # Without the ring nobody can tell whether there are more: all are taken then.
                    if (self.reap_some(delivery) if self.ring != NULL else self.reap(delivery)) > 0:
                        continue
                if taken >= polls:
                    self.taken = count
                    self.rider.refuse(self.batch + taken, count - taken, EAGAIN)
                    break
                if self.pending():
                    break  # slots come back with the events that later turns take out of the ring
                if request.owner == self.epoll_fd or request.owner == self.wake_fd:
                    self.evict()
                    continue
                for i in range(taken, polls):
                    self.overflowed += 1
                    self.taken = i + 1
                    self.refuse(<poll_request *>self.batch[i], -result)
                if count > polls:
                    self.taken = count
                    self.rider.refuse(self.batch + polls, count - polls, EAGAIN)
                break
            taken += 1
            self.taken = taken
            if taken > polls:
                self.rider.refuse(self.batch + taken - 1, 1, -result)
                continue
            if result == -EINVAL:
                self.refused += 1
            self.refuse(request, -result)
        return 0

    cdef int refuse(self, poll_request *request, long error) except -1:
        """Puts the file of a request that was not taken into the epoll set."""
        cdef int fd = request.owner, direction = request.direction
        cdef Watch watch
        poll_pool_release(&self.pool, request)
        if fd < 0:
            return 0
        if fd == self.epoll_fd or fd == self.wake_fd:
            self.enqueue(fd, 0, POLL_IN)  # nothing goes without it
            if error == EINVAL:
                raise OSError(EINVAL, poll_refused_reason(EINVAL, os.uname().release,
                                                          "an epoll set"))
            raise os_error(error, "io_submit")
        watch = self.find(fd)
        if watch is None:
            return 0
        watch.requests[direction] = NO_REQUEST
        if error == EBADF or watch.nested:
            return 0  # closed without unwatch(): never ready again
        if error != EAGAIN and error != EINVAL:
            return self.postpone(watch, os_error(error, "io_submit"))
        try:
            self.nest(watch)
        except OSError as failure:
            return 0 if failure.errno == EBADF else self.postpone(watch, failure)
        self.disarm(watch, 1 - direction)
        return 0

    cdef int postpone(self, Watch watch, object error) except -1:
        """Lets a file wait for which there is no room, and tells so once."""
        self.postponed.append(watch)
        self.retry_at = busy_poll_clock() + RETRY_NS
        if not watch.reported:
            watch.reported = True
            self.report(watch.fd, error)
            self.dispatched += 1
        return 0

    cdef int retry(self) except -1:
        """Queues again what was postponed, every RETRY_NS."""
        cdef list postponed = self.postponed
        cdef Watch watch
        cdef int direction
        if busy_poll_clock() < self.retry_at:
            return 0
        self.postponed = []
        for watch in postponed:
            if watch.nested or self.find(watch.fd) is not watch:
                continue
            for direction in range(2):
                if watch.target(direction) is not None and (
                        watch.requests[direction] == NO_REQUEST):
                    self.arm(watch, direction)
        return 0

    cdef int evict(self) except -1:
        """Frees a slot for one of the two that must be armed.

        Their own slots may have gone to the reserve of another CPU (fs/aio.c keeps the free ones
        per CPU), when this thread was moved.
        """
        cdef poll_request *request
        cdef Watch watch
        cdef long result
        cdef int direction
        for watch in self.watches:
            if watch is None or watch.nested:
                continue
            for direction in range(2):
                if watch.requests[direction] == NO_REQUEST:
                    continue
                request = poll_pool_at(&self.pool, watch.requests[direction])
                if request.state != POLL_IN_FLIGHT:
                    continue
                self.nest(watch)  # first: it may fail
                self.disarm(watch, 0)
                self.disarm(watch, 1)
                self.overflowed += 1
                result = wait_ring(self.ctx, EVENTS_MAX, self.events, 1000000000,
                                   &self.use_pgetevents)
                for i in range(result):
                    self.complete(&self.events[i], HAND_OVER)
                return 0
        raise os_error(EAGAIN, "io_submit: no slot is left for the epoll set")

    cdef Py_ssize_t reap_some(self, Delivery delivery) except -1:
        """Completes up to EVENTS_MAX of what has happened, without waiting; answers how many."""
        cdef long count, i
        if self.ring != NULL:
            count = abi.aio_ring_reap(self.ring, self.events, EVENTS_MAX)
            self.ring_reaps += count > 0
        else:
            count = wait_ring(self.ctx, EVENTS_MAX, self.events, 0, &self.use_pgetevents)
            self.getevents_calls += 1
        if count < 0 and count != -EINTR:
            raise os_error(-count, "io_getevents")
        for i in range(count):
            self.complete(&self.events[i], delivery)
        return max(count, 0)

    cdef Py_ssize_t reap(self, Delivery delivery) except -1:
        """Completes all that has happened, without waiting; answers the number of events."""
        cdef Py_ssize_t total = 0, count = EVENTS_MAX
        while count == EVENTS_MAX:
            count = self.reap_some(delivery)
            total += count
        return total

    cdef int complete(self, abi.io_event *event, Delivery delivery) except -1:
        cdef poll_request *request = poll_pool_find(&self.pool, event.data)
        cdef int fd, direction, ready
        cdef Watch watch
        if request == NULL:
            if event.data & RIDER_TAG and self.rider is not None:
                self.completed += 1
                self.dispatched += 1
                self.rider.complete(event)
            return 0
        fd = request.owner
        direction = request.direction
        poll_pool_release(&self.pool, request)
        self.completed += 1
        if fd < 0:
            return 0
        if fd == self.wake_fd or fd == self.epoll_fd:
            self.enqueue(fd, 0, POLL_IN)
            if delivery == ONLY_ARM:
                return 0
            return self.drain_wake() if fd == self.wake_fd else self.collect_all_nested()
        watch = self.find(fd)
        if watch is None:
            return 0
        watch.requests[direction] = NO_REQUEST
        ready = <int>event.res & (asked(direction) | POLL_ALWAYS)
        if ready and delivery != ONLY_ARM:
            self.hand_over(watch, direction)
            if watch.eager and direction == READ:
                return 0  # the reader calls again()
        else:
            self.stale += delivery != ONLY_ARM
        return self.arm(watch, direction)

    cdef int collect_all_nested(self) except -1:
        """Hands over all that is ready in the epoll set.

        It has one event in each round of the ring, as a file with a slot has: if that stood for a
        part of them only, the others would be served less often.
        """
        if self.collect_nested(0) == self.epoll_room and self.epoll_room < self.nr_nested:
            self.reserve_epoll_events(min(2 * self.epoll_room, self.nr_nested))
        return 0

    cdef int again(self, Watch watch, bint hit) except -1:
        if watch.eager == TRYING:
            watch.eager = EAGER
            speculation_tried(&self.reading, hit)
            self.tried += 1
            self.found += hit
        if watch.nested or watch.reader is None or watch.requests[READ] != NO_REQUEST:
            return 0
        if speculation_due(&self.reading) and hit:
            self.eager.append(watch)
            return 0
        return self.arm(watch, READ)

    cdef int try_eager(self) except -1:
        """Hands over, unarmed, the readers that found something in the last turn.

        A reader that finds something again has saved a request; one that does not has cost a
        system call for nothing.  Where most do not, none is tried for a while.
        """
        cdef list eager = self.eager
        cdef Watch watch
        self.eager = []
        for watch in eager:
            if watch.reader is not None and not watch.nested and (
                    watch.requests[READ] == NO_REQUEST):
                watch.eager = TRYING
                self.hand_over(watch, READ)
        return 0

    cdef int turn(self, int64_t timeout_ns) except -1:
        cdef Py_ssize_t nr_eager = len(self.eager)
        self.check_process()
        if self.in_turn:
            raise RuntimeError("the reactor is in use")
        self.in_turn = True
        self.turns += 1
        self.dispatched = 0
        try:
            if self.postponed:
                self.retry()
            if nr_eager:
                self.try_eager()
            self.submit()
            if timeout_ns == 0 or self.ring != NULL or self.dispatched:
                # As many as were tried unarmed, if there are: nobody is served less often.
                while self.reap_some(HAND_OVER) == EVENTS_MAX and nr_eager > EVENTS_MAX:
                    nr_eager -= EVENTS_MAX
            if timeout_ns != 0 and self.dispatched == 0 and self.queued == 0:
                if self.postponed and not 0 < timeout_ns < RETRY_NS:
                    timeout_ns = RETRY_NS
                self.sleep(timeout_ns)
        finally:
            self.after_sleep()
            self.in_turn = False
        return 0

    cdef int sleep(self, int64_t timeout_ns) except -1:
        cdef long count, i
        cdef int64_t start = 0
        cdef bint found = False
        if self.ring != NULL and self.busy.budget_ns:
            start = busy_poll_clock()
            if busy_poll_due(&self.busy):
                with nogil:
                    found = busy_poll_spin(&self.busy, self.ring, timeout_ns)
                if found:
                    self.after_sleep()
                    self.reap_some(HAND_OVER)
                    return 0
        self.sleeps += 1
        self.getevents_calls += 1
        with nogil:
            count = wait_ring(self.ctx, EVENTS_MAX, self.events, timeout_ns, &self.use_pgetevents)
        self.after_sleep()
        if self.ring != NULL and self.busy.budget_ns:
            busy_poll_slept(&self.busy, start)
        if count == -EINTR:
            PyErr_CheckSignals()
            return 0
        if count < 0:
            raise os_error(-count, "io_getevents")
        for i in range(count):
            self.complete(&self.events[i], HAND_OVER)
        return 0

    cdef int settle_rider(self) except -1:
        """Submits what the rider has waiting, and waits until it has nothing in flight."""
        cdef long count, i
        if self.in_turn:
            raise RuntimeError("the reactor is in use")
        self.check_process()
        self.in_turn = True
        try:
            while self.rider.waiting + self.rider.in_flight > 0:
                if self.rider.waiting:
                    self.submit()
                if self.reap(ONLY_ARM) == 0 and self.rider.in_flight > 0:
                    with nogil:
                        count = wait_ring(self.ctx, EVENTS_MAX, self.events, -1,
                                          &self.use_pgetevents)
                    for i in range(count):
                        self.complete(&self.events[i], ONLY_ARM)
        finally:
            self.in_turn = False
        return 0

    cdef bint pending(self) noexcept:
        return self.ring != NULL and abi.aio_ring_pending(self.ring) > 0

    cdef bint idle(self) noexcept:
        return (self.ring != NULL and self.queued == 0 and abi.aio_ring_pending(self.ring) == 0
                and len(self.eager) == 0 and len(self.postponed) == 0
                and (self.rider is None or self.rider.waiting == 0) and not self.is_foreign())

    cdef Py_ssize_t nr_lost(self) except? -1:
        """The records that stay taken once nothing is watched any more: each held a slot."""
        cdef poll_request *request
        cdef Watch watch
        cdef uint32_t i
        cdef long count
        cdef int tries
        self.in_turn = True  # disarm() does not wait for each one then
        for watch in self.watches:
            if watch is not None:
                self.disarm(watch, 0)
                self.disarm(watch, 1)
        for i in range(self.pool.nr_chunks * POLL_POOL_CHUNK):
            request = poll_pool_at(&self.pool, i)
            if request.owner == self.epoll_fd or request.owner == self.wake_fd:
                request.owner = -1
                if request.state == POLL_IN_FLIGHT:
                    abi.aio_sys_cancel(self.ctx, &request.iocb)
        self.take_queue()
        for tries in range(LOST_TRIES):
            if not self.pool.in_flight:
                break
            count = wait_ring(self.ctx, EVENTS_MAX, self.events, SETTLE_NS, &self.use_pgetevents)
            for i in range(max(count, 0)):
                self.complete(&self.events[i], ONLY_ARM)
        self.in_turn = False
        return poll_pool_nr_taken(&self.pool)

    cdef int shut(self) except -1:
        cdef abi.aio_context_t ctx = self.ctx
        if ctx and not self.is_foreign() and is_reusable(self) and keep_context(
                ctx, self.nr_events):
            ctx = 0
        self.ctx = 0
        self.ring = NULL
        self.queued = 0
        if ctx and not self.is_foreign():
            with nogil:
                abi.aio_sys_destroy(ctx)
        self.eager.clear()
        self.postponed.clear()
        poll_pool_clear(&self.pool)
        return 0

    def statistics(self):
        """The counters, as a ReactorStatistics."""
        return Reactor.statistics(self)._replace(
            stale=self.stale, refused=self.refused, overflowed=self.overflowed,
            nr_events=self.nr_events, submitted=self.submitted, completed=self.completed,
            in_flight=self.pool.in_flight + (0 if self.rider is None else self.rider.in_flight),
            cancelled=self.cancelled, submit_calls=self.submit_calls,
            getevents_calls=self.getevents_calls, ring_reaps=self.ring_reaps, tried=self.tried,
            user_ring=self.ring != NULL, found=self.found, busy_polls=self.busy.spins,
            busy_poll_hits=self.busy.hits)


cdef bint is_reusable(AioReactor reactor) except -1:
    """Whether nothing is in flight and nothing in the ring, once all was cancelled.

    A context that has refused its first polls is no use to anyone.
    """
    return (reactor.proven and reactor.ring != NULL and reactor.pool.in_flight <= EVENTS_MAX
            and (reactor.rider is None or reactor.rider.waiting + reactor.rider.in_flight == 0)
            and reactor.nr_lost() == 0 and abi.aio_ring_pending(reactor.ring) == 0)
