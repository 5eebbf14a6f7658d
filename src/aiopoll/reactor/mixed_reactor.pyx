"""The reactor of backend "auto": what is polled where, while the loop runs.

Facts.  A file on the ring is armed anew for each event, many in one system call.  Its event is
seen by a look at memory, so that a loop may look instead of sleeping.  A file in the epoll set
stays armed, and one system call asks for all that are ready, or sleeps until one is.  The set has
a descriptor, and a poll of it completes as soon as one of its files is ready.

Rule.  The set has the files, and the loop sleeps in it, as EpollReactor does, while nothing else
is in flight on the ring.  While requests of files are, it waits on the ring, which polls the set
as well.  Where it pays to look at the ring before sleeping (c/trial.h), all is as in AioReactor: a
file moves to the ring after its next event.  When that pays no more it moves back when it would
be armed, and what is parked moves a few at a time.  The wake-up is on the ring, and in the set
while that is in use.

Why.  Each mechanism is used where it is the cheaper one; what it takes, docs/decisions/0009 has.

Cost.  A system call or two for each busy file that moves.

Failure prevented.  Thousands of short connections, one after another: each would be put on the
ring for its only event, and taken off by a cancellation.

The ring's own polls, of the set and of the wake-up, are not armed again while the loop sleeps in
the set: their events stay in the ring until it is used.  Since they are level-triggered at their
submission, nothing is missed then.
"""

cimport cython
from libc.stdint cimport int64_t, uint64_t

from aiopoll.aio.clock cimport clock_ns
from aiopoll.aio.ring cimport ring_pending
from aiopoll.reactor.aio_reactor cimport AioReactor
from aiopoll.reactor.reactor cimport EPOLL_CTL_DEL, POLL_IN, traced_epoll_ctl
from aiopoll.reactor.registration cimport (
    LEVEL, READ, RING, RING_END, SPECULATING, SPECULATIVELY, WRITE, Registration, in_epoll,
    needs_read,
)
from aiopoll.reactor.ring_reactor cimport REARM_ONLY, poll_pool_cancel

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents

    int poll(pollfd *files, unsigned long nr, int timeout_ms)

cdef enum:
    NOT_A_FILE = -2  # the number of none
    NR_OWN = 2  # polls of the ring that are always there, or their events
    PARKED_MAX = 64  # descriptors that are looked at in each iteration
    IN_VAIN_MAX = 4  # from then on it is cheaper to have the ring say when the set is ready


@cython.final
cdef class MixedReactor(AioReactor):
    """The backend on an AIO ring that has the epoll set do what that does better.

    wait: "set" or "ring", whatever pays; "both" for both, in turn (for tests); None for what pays.
    Other arguments and errors are AioReactor's.
    """

    def __init__(self, ready, nr_events=512, user_ring=None, busy_poll=0, wait=None):
        AioReactor.__init__(self, ready, nr_events, user_ring, busy_poll)
        trial_init(&self.trial)
        self.forced = wait is not None
        self.in_turn = wait == "both"
        if wait != "ring":
            self.use_set()

    # Where the files are

    cdef int use_set(self) except -1:
        cdef Registration registration
        try:
            self.add_wakeup(self.epoll_fd)
        except OSError:
            return 0  # no room there: the ring has all, and the next round tries again
        self.moves += 1
        self.wakes_by_epoll = self.uses_set = True
        for registration in self.speculation.take():
            if needs_read(registration):
                self.move_in(registration)
        return 0

    cdef int use_ring(self) except -1:
        traced_epoll_ctl(self.trace, self.epoll_fd, EPOLL_CTL_DEL, self.wakeup.fd, NULL)
        self.wakes_by_epoll = self.uses_set = False
        self.moves += 1
        return 0

    cdef int move_in(self, Registration registration) except -1:
        """Puts an owned file into the epoll set, for all that it waits for."""
        cdef int direction
        try:
            self.move_to_epoll(registration, LEVEL)
        except OSError:  # no room there: the ring has it
            for direction in range(2):
                if registration.callback(direction) is not None:
                    self.disarm(registration, direction)
                    AioReactor.arm(self, registration, direction)
            return 0
        registration.in_set = True
        self.disarm(registration, READ)
        return self.disarm(registration, WRITE)

    cdef int move_parked(self) except -1:
        """Moves some of the files that the ring polls.

        Their cancellations are not waited for: what such a wait reaps, a request of a file too, the
        poll that comes next would not know of, and sleep.
        """
        cdef Registration registration
        cdef Py_ssize_t looked
        if self.polling:
            return 0
        self.polling = True
        try:
            for looked in range(min(PARKED_MAX, len(self.registrations))):
                self.next_parked += 1
                if self.next_parked >= len(self.registrations):
                    self.next_parked = 0
                registration = self.registrations[self.next_parked]
                if registration is not None and RING <= registration.state <= RING_END:
                    self.move_in(registration)
        finally:
            self.polling = False
        return 0

    cdef int move_to_ring(self, Registration registration) except -1:
        registration.in_set = self.uses_set
        return 0 if self.uses_set else AioReactor.move_to_ring(self, registration)

    cdef int disown(self, Registration registration, object file) except -1:
        registration.in_set = False  # it is there for good
        return AioReactor.disown(self, registration, file)

    cdef int arm(self, Registration registration, int direction) except -1:
        if self.uses_set:
            return self.move_in(registration)
        return AioReactor.arm(self, registration, direction)

    cdef int watch_end(self, Registration registration) except -1:
        return 0 if in_epoll(registration) else AioReactor.watch_end(self, registration)

    cdef int read_done(self, Registration registration, bint hit) except -1:
        if self.uses_set:
            if registration.reading == SPECULATING:
                registration.reading = SPECULATIVELY
            if needs_read(registration):
                return self.move_in(registration)
        elif registration.in_set and in_epoll(registration):
            return self.move_to_ring(registration)
        else:
            return AioReactor.read_done(self, registration, hit)
        return 0

    cdef int rebuild_epoll(self) except -1:
        AioReactor.rebuild_epoll(self)
        if self.uses_set:
            # A poll whose event was left to a worker looks again (fs/aio.c,
            # aio_poll_complete_work): where nothing is ready by then it goes on with the old set.
            poll_pool_cancel(&self.pool, &self.ring, self.epoll_fd, NOT_A_FILE)
            self.enqueue(self.epoll_fd, 0, POLL_IN)
        return 0

    # Iterations

    cdef bint is_ring_quiet(self) noexcept:
        """Whether nothing is on the ring, or about to be, but its own polls."""
        return (self.pool.in_flight + self.queue.nr == NR_OWN and len(self.deferred) == 0
                and (self.source is None or self.source.waiting + self.source.in_flight == 0))

    cdef int poll(self, int64_t timeout_ns) except -1:
        cdef uint64_t hits = self.busy.hits
        cdef bint look
        if not self.uses_set:
            AioReactor.poll(self, timeout_ns)
            look = self.busy.hits != hits
        elif self.is_ring_quiet():
            look = self.poll_set(timeout_ns)
        else:
            look = False
            if self.pool.in_flight > NR_OWN:
                self.move_parked()
            AioReactor.poll(self, timeout_ns)
        if self.in_turn:
            look = self.uses_set
        elif self.forced or self.nr_dispatched == self.nr_done:
            return 0
        else:
            look = trial_round(&self.trial, self.count_events(), look)
        if look and self.uses_set:
            self.use_ring()
        elif not look and not self.uses_set:
            self.use_set()
        return 0

    cdef int64_t count_events(self) noexcept:
        """The files that this iteration has found ready, less those that were tried in vain."""
        cdef uint64_t missed = self.speculation.tried - self.speculation.found
        cdef int64_t before = self.missed
        self.missed = missed
        return self.nr_dispatched - self.nr_done - <int64_t>missed + before

    cdef bint poll_set(self, int64_t timeout_ns) except -1:
        """poll() in the epoll set alone; returns whether looking may pay."""
        cdef bint may_look = timeout_ns != 0 and self.busy.budget_ns and self.ring.mapped != NULL
        cdef int64_t start = 0
        self.begin()
        self.sleeps += timeout_ns != 0
        self.nr_done = 0
        try:
            if may_look:
                start = clock_ns()
            self.poll_epoll(timeout_ns)
            if may_look:
                may_look = clock_ns() - start < self.busy.budget_ns
            if timeout_ns != 0 or self.nr_dispatched:
                self.in_vain = 0
            else:
                self.in_vain += 1
                if self.in_vain == IN_VAIN_MAX:
                    self.reap_some(REARM_ONLY)
                    self.submit()
        finally:
            self.after_sleep()
            self.polling = False
        return may_look

    cdef bint pending(self) noexcept:
        cdef pollfd the_set
        if not AioReactor.pending(self) or not self.uses_set or not self.is_ring_quiet():
            return AioReactor.pending(self)
        the_set.fd = self.epoll_fd  # the event may be of what was dispatched since
        the_set.events = POLL_IN
        return poll(&the_set, 1, 0) > 0

    def statistics(self):
        """The counters, as a ReactorStatistics."""
        return AioReactor.statistics(self)._replace(uses_set=self.uses_set, moves=self.moves)
