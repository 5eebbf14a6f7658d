"""The reactor: what its backends share, and the one on epoll.

Facts.  What is watched has to stay watched after it was ready (level-triggered).  Some files
cannot be polled by AIO, and its slots are few: an epoll set stands by for both.  A file that was
closed is gone from an epoll set, unless a duplicate of it is open somewhere.

Rule.  A Watch is a file with up to two targets, one for reading, one for writing; unwatch() comes
before close(2).  The epoll set belongs to all backends: on epoll it is what the reactor sleeps
in, on AIO its descriptor is polled on the ring.  After a fork the child touches neither.

Why.  One set for what AIO poll refuses and for what finds no slot is one mechanism less, and
any number of idle files then costs one slot.

Cost.  Two descriptors a reactor: the epoll set and the eventfd that wakes it.

No asyncio name occurs here: a target is any object, put into the queue when its file is ready.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport EBADF, EEXIST, EINTR, ENOENT, errno
from libc.stdint cimport int64_t, uint64_t
from posix.unistd cimport close, read, write

import os

from aiopoll._core.reactor_statistics import ReactorStatistics

cdef extern from "mm_generation.h":
    void aio_mm_page_map()
    uint64_t aio_mm_generation()

cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK

    int eventfd(unsigned int initial, int flags)

cdef extern from *:
    """
    #define reactor_flag_set(flag, value) __atomic_store_n(flag, value, __ATOMIC_SEQ_CST)
    #define reactor_flag_swap(flag, value) __atomic_exchange_n(flag, value, __ATOMIC_SEQ_CST)
    """
    void reactor_flag_set(int *flag, int value) nogil
    int reactor_flag_swap(int *flag, int value) nogil

aio_mm_page_map()

cdef int[2] ASKED
ASKED[0] = POLL_IN
ASKED[1] = POLL_OUT


def needs_epoll(int fd):
    """Whether a file is of a kind that AIO poll does not serve.  Raises OSError (EBADF)."""
    cdef int kind = wait_needs_epoll(fd)
    if kind < 0:
        raise OSError(-kind, os.strerror(-kind))
    return kind > 0


cdef object os_error(int code, str call):
    return OSError(code, f"{call}: {os.strerror(code)}")


@cython.final
@cython.freelist(64)
cdef class Watch:
    """One file: who waits for it, and by which requests."""

    def __cinit__(self, int fd, bint strict):
        self.fd = fd
        self.strict = strict
        self.requests[0] = self.requests[1] = NO_REQUEST

    cdef object target(self, int direction):
        return self.reader if direction == READ else self.writer

    cdef void set_target(self, int direction, object target) noexcept:
        if direction == READ:
            self.reader = target
        else:
            self.writer = target


cdef class Reactor:
    """What both backends share: the table of watches, the epoll set, the wake-up.

    ready: where the target of each direction of a file that is ready is put.
    report: called with a descriptor and an OSError where it cannot be waited for at present.
    """

    def __cinit__(self, ReadyQueue ready not None, *args, **options):
        self.ready = ready
        self.watches = []
        self.epoll_fd = self.wake_fd = -1
        self.use_pwait2 = 1
        self.mm_generation = aio_mm_generation()
        self.reserve_epoll_events(EVENTS_MAX)
        self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll_fd < 0:
            raise os_error(errno, "epoll_create1")
        self.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.wake_fd < 0:
            raise os_error(errno, "eventfd")

    def __dealloc__(self):
        if self.epoll_fd >= 0:
            close(self.epoll_fd)
        if self.wake_fd >= 0:
            close(self.wake_fd)
        PyMem_Free(self.epoll_events)

    @property
    def closed(self):
        """Whether close() was called."""
        return self.epoll_fd < 0

    cdef bint is_foreign(self) noexcept:
        """Whether this is the child of a fork: ring and epoll set are the parent's."""
        return self.mm_generation != aio_mm_generation()

    cdef int check_process(self) except -1:
        if self.epoll_fd < 0:
            raise RuntimeError("this reactor is closed")
        if self.is_foreign():
            raise RuntimeError("this event loop belongs to the parent process: after fork() make"
                               " a new one")
        return 0

    cdef Watch find(self, int fd):
        if 0 <= fd < len(self.watches):
            return self.watches[fd]
        return None

    cdef Watch watch(self, int fd, int direction, object target, int manner):
        """Hands `target` over in each turn that finds `fd` ready; replaces another target.

        manner: of Manner, what holds of the owner and the file.
        Raises OSError if the file is not open (EBADF) or cannot be waited for (EPERM).
        """
        cdef bint strict = (manner & STRICT) != 0
        cdef bint eager = (manner & CALLS_AGAIN) != 0
        cdef Watch watch
        cdef int kind = 0
        self.check_process()
        watch = self.find(fd)
        if watch is None:
            if not manner & SOCKET or fd < 0:
                kind = wait_needs_epoll(fd)
            if kind < 0:
                raise os_error(-kind, "fstat")
            watch = Watch.__new__(Watch, fd, strict)
            watch.set_target(direction, target)
            watch.eager = eager
            watch.untried = (manner & UNTRIED) != 0
            if kind:
                self.nest(watch)
            else:
                self.arm(watch, direction)
            while len(self.watches) <= fd:
                self.watches.append(None)
            self.watches[fd] = watch
            self.nr_watched += 1
        else:
            # One that is there already may be of an earlier file of this number, which was closed
            # without unwatch(): what was armed for it must go.
            self.disarm(watch, direction)
            watch.strict = watch.strict or strict
            watch.untried = watch.untried or (manner & UNTRIED) != 0
            watch.set_target(direction, target)
            if direction == READ:
                watch.eager = eager
            if watch.nested:
                self.update_nested(watch, EPOLL_CTL_MOD)
            else:
                self.arm(watch, direction)
        if self.sleeping:
            self.wake()  # another thread waits with what was armed before
        return watch

    cdef int again(self, Watch watch, bint hit) except -1:
        """What an eager reader says after each try: whether it found something to read.

        This is where a backend that polls once at a time arms the watch anew, or lets the reader
        try another time first.
        """
        return 0

    cdef object unwatch(self, int fd, int direction):
        """Forgets a direction of a file, and answers its target, or None.  Before close(2)."""
        cdef Watch watch = self.find(fd)
        if watch is None or watch.target(direction) is None:
            return None
        target = watch.target(direction)
        watch.set_target(direction, None)
        self.disarm(watch, direction)
        if watch.target(1 - direction) is not None:
            if watch.nested:
                try:
                    self.update_nested(watch, EPOLL_CTL_MOD)
                except OSError as error:
                    if error.errno != EBADF:  # it was closed before
                        raise
            return target
        self.watches[fd] = None
        self.nr_watched -= 1
        if watch.nested:
            self.nr_nested -= 1
            self.update_nested(watch, EPOLL_CTL_DEL)
        return target

    cdef int descriptor_of(self, object file) except -2:
        """The descriptor that an object had when its file came to be watched; -1 for none."""
        cdef Watch watch
        if file is not None:
            for watch in self.watches:
                if watch is not None and watch.file is file:
                    return watch.fd
        return -1

    cdef object watching(self, int fd, int direction):
        """The target of a direction, or None."""
        cdef Watch watch = self.find(fd)
        return None if watch is None else watch.target(direction)

    cdef int arm(self, Watch watch, int direction) except -1:
        raise NotImplementedError

    cdef int disarm(self, Watch watch, int direction) except -1:
        raise NotImplementedError

    cdef int nest(self, Watch watch) except -1:
        """Puts a file into the epoll set."""
        self.update_nested(watch, EPOLL_CTL_ADD)
        watch.nested = True
        self.nr_nested += 1
        return 0

    cdef int update_nested(self, Watch watch, int operation) except -1:
        cdef epoll_event event
        if self.is_foreign() or self.epoll_fd < 0:
            return 0  # the set is shared with the parent of the fork: it is not ours to change
        event.events = ((POLL_IN if watch.reader is not None else 0)
                        | (POLL_OUT if watch.writer is not None else 0))
        event.data.u64 = 0
        event.data.fd = watch.fd
        if epoll_ctl(self.epoll_fd, operation, watch.fd, &event) == 0:
            return 0
        if operation == EPOLL_CTL_DEL:
            return 0  # it was closed before: the kernel has removed it
        if errno == EEXIST or errno == ENOENT:
            # The number has gone from a file that was closed to another.
            operation = EPOLL_CTL_MOD if errno == EEXIST else EPOLL_CTL_ADD
            if epoll_ctl(self.epoll_fd, operation, watch.fd, &event) == 0:
                return 0
        raise os_error(errno, "epoll_ctl")

    cdef int reserve_epoll_events(self, int room) except -1:
        memory = PyMem_Realloc(self.epoll_events, room * sizeof(epoll_event))
        if memory == NULL:
            raise MemoryError
        self.epoll_events = <epoll_event *>memory
        self.epoll_room = room
        return 0

    cdef int collect_nested(self, int64_t timeout_ns) except -1:
        """Hands over what is ready in the epoll set, waiting as turn() does.

        Answers how many the kernel gave: more may be ready where that is `epoll_room`.
        """
        cdef long count, i
        cdef int fd, ready, direction
        cdef Watch watch
        if timeout_ns == 0:
            count = wait_epoll(self.epoll_fd, self.epoll_room, self.epoll_events, 0,
                               &self.use_pwait2)
        else:
            with nogil:
                count = wait_epoll(self.epoll_fd, self.epoll_room, self.epoll_events, timeout_ns,
                                   &self.use_pwait2)
        self.after_sleep()
        if count == -EINTR:
            PyErr_CheckSignals()
            return 0
        if count < 0:
            raise os_error(-count, "epoll_wait")
        for i in range(count):
            fd = self.epoll_events[i].data.fd
            ready = self.epoll_events[i].events
            if fd == self.wake_fd:
                self.drain_wake()
                continue
            watch = self.find(fd)
            if watch is None or not watch.nested:
                continue
            for direction in range(2):
                if ready & (ASKED[direction] | POLL_ALWAYS):
                    self.hand_over(watch, direction)
        return count

    cdef int hand_over(self, Watch watch, int direction) except -1:
        target = watch.target(direction)
        if target is not None:
            self.dispatched += 1
            self.ready.push(target)
        return 0

    cdef int turn(self, int64_t timeout_ns) except -1:
        """Hands over all that is ready; waits for it up to `timeout_ns`, for ever if negative.

        May return early with nothing: after a signal, a wake(), or an event that was stale.
        """
        raise NotImplementedError

    # Waking a reactor that sleeps.  The sleeper: flag = 1, look at the queue, sleep.  The waker:
    # put into the queue, flag = 0, and write to the eventfd if the flag was 1.  Each side stores
    # before it loads what the other one stores, and both are sequentially consistent, so that
    # at least one sees the other: either the sleeper finds the queue filled, or the waker finds
    # the flag set.  Acquire and release alone would let both loads pass the stores.  Under a GIL
    # its hand-over orders more than that, for the sleeper holds it from the flag until the queue
    # was looked at; the flag does not depend on it.

    cdef int before_sleep(self) noexcept:
        reactor_flag_set(&self.sleeping, 1)
        return 0

    cdef int after_sleep(self) noexcept:
        reactor_flag_set(&self.sleeping, 0)
        return 0

    cdef int wake(self) noexcept:
        """Makes turn() return if another thread sleeps in it; else nothing."""
        cdef uint64_t one = 1
        if reactor_flag_swap(&self.sleeping, 0) and not self.is_foreign():
            self.wakes += 1
            write(self.wake_fd, &one, sizeof(one))
        return 0

    cdef int drain_wake(self) noexcept:
        cdef uint64_t count
        read(self.wake_fd, &count, sizeof(count))
        return 0

    cdef bint pending(self) noexcept:
        """Whether events wait, by a look at memory."""
        return False

    cdef bint idle(self) noexcept:
        """Whether a turn that does not wait would do nothing, by a look at memory."""
        return False

    cdef Py_ssize_t nr_lost(self) except? -1:
        """For the debug build: requests that nobody will ever see the end of."""
        return 0

    cdef int shut(self) except -1:
        return 0

    def close(self):
        """Gives descriptors and slots back; closing again does nothing.

        In the child of a fork the ring and the epoll set are left to the parent.
        """
        cdef int failed
        if self.in_turn:
            raise RuntimeError("the reactor is in use")
        if self.epoll_fd < 0:
            return
        watches = [watch for watch in self.watches if watch is not None]
        assert self.nr_watched == len(watches), "a watch was lost"
        assert self.nr_nested == sum([(<Watch>watch).nested for watch in watches])
        assert self.is_foreign() or self.nr_lost() == 0, "a request was lost, and its slot"
        self.shut()
        failed = close(self.epoll_fd) | close(self.wake_fd)
        self.epoll_fd = self.wake_fd = -1
        self.watches.clear()
        self.nr_watched = self.nr_nested = 0
        assert not failed, "somebody else has closed a descriptor of the reactor"

    def watched(self):
        """What is watched, as a dict: descriptor to (target for reading, for writing)."""
        cdef Watch watch
        return {watch.fd: (watch.reader, watch.writer)
                for watch in self.watches if watch is not None}

    def statistics(self):
        """The counters, as a ReactorStatistics."""
        return ReactorStatistics(
            backend=self.backend, watched=self.nr_watched, nested=self.nr_nested,
            turns=self.turns, sleeps=self.sleeps, wakes=self.wakes)


@cython.final
cdef class EpollReactor(Reactor):
    """The backend for machines without AIO poll: all files are in the epoll set."""

    def __init__(self, ready):
        cdef epoll_event event
        self.backend = "epoll"
        event.events = POLL_IN
        event.data.u64 = 0
        event.data.fd = self.wake_fd
        if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, self.wake_fd, &event) != 0:
            raise os_error(errno, "epoll_ctl")

    cdef int arm(self, Watch watch, int direction) except -1:
        return self.nest(watch)

    cdef int disarm(self, Watch watch, int direction) except -1:
        return 0

    cdef int turn(self, int64_t timeout_ns) except -1:
        self.check_process()
        if self.in_turn:
            raise RuntimeError("the reactor is in use")
        self.turns += 1
        if timeout_ns != 0:
            self.sleeps += 1
        self.in_turn = True
        try:
            self.collect_nested(timeout_ns)
        finally:
            self.in_turn = False
        return 0
