"""The reactor: what its backends share, and the one on epoll.

Facts.  What is watched has to stay watched after it was ready (level-triggered).  A parked AIO
poll keeps its file open: after the owner's close(2) the peer sees no end, a listener goes on
accepting.  An epoll set does not: it knows a file by its struct file and the number that it was
added under, and drops it when the last descriptor of it is closed.  A duplicate keeps it in the
set, under a number that may be another file's by then: it is reported, and cannot be removed
(fs/eventpoll.c, ep_find: EPOLL_CTL_DEL and MOD look for the file that has the number now).

Rule.  A Watch is a file with up to two targets, one for reading, one for writing.  Where the loop
alone has the number (OWNED) its backend may wait as it likes, and unwatch() comes before close(2).
All other numbers live in the epoll set, which each backend has: on epoll it is what the reactor
sleeps in, on AIO its descriptor is polled on the ring.  A place in the set carries a generation: an
event of a file that was closed, and that a duplicate keeps there, is nobody's, and the set is made
anew without it.  A Watch whose file has lost its number is forgotten when the number is watched for
another file.  After a fork the child touches neither ring nor set.

Why.  One set for what AIO poll must not keep open, what it refuses and what finds no slot is one
mechanism; any number of idle files costs one slot.

Failure prevented.  A task waits for descriptor 7, whose owner closes it and keeps a duplicate.
Another socket gets 7 and is watched.  Data for the duplicate is reported under 7: by the number
alone the stranger's reader would run, find nothing, and run again for ever.

Cost.  Two descriptors a reactor: the epoll set and the eventfd that wakes it.  One epoll_ctl for
each wait of ONCE, two for each other file that is watched and forgotten.

No asyncio name occurs here: a target is any object, put into the queue when its file is ready.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport EBADF, EEXIST, EINTR, ENOENT, EPERM, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.unistd cimport close, read, write

from aiopoll.reactor.descriptor cimport has_number

import os

from aiopoll.reactor.statistics import ReactorStatistics

cdef extern from "fork_guard.h":
    void aio_mm_page_map()
    uint64_t aio_mm_generation()

cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK

    int eventfd(unsigned int initial, int flags)

cdef extern from "<fcntl.h>" nogil:
    enum:
        O_CLOEXEC

cdef extern from "<unistd.h>" nogil:
    int dup3(int old, int new, int flags)

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


cdef object os_error(int code, str call):
    return OSError(code, f"{call}: {os.strerror(code)}")


@cython.final
@cython.freelist(64)
cdef class Watch:
    """One file: who waits for it, and by which requests."""

    def __cinit__(self, int fd):
        self.fd = fd
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
        PyMem_Free(self.left_in_epoll)

    @property
    def closed(self):
        """Whether close() was called."""
        return self.epoll_fd < 0

    cdef bint is_foreign(self) noexcept:
        """Whether this is the child of a fork: ring and epoll set are the parent's."""
        return self.mm_generation != aio_mm_generation()

    cdef int check_process(self) except -1:
        if self.epoll_fd < 0:
            raise RuntimeError("Event loop is closed")
        if self.is_foreign():
            raise RuntimeError("this event loop belongs to the parent process: after fork() make"
                               " a new one")
        return 0

    cdef Watch find(self, int fd):
        if 0 <= fd < len(self.watches):
            return self.watches[fd]
        return None

    cdef Watch watch(self, int fd, int direction, object target, int manner, object file):
        """Hands `target` over in each turn that finds `fd` ready; replaces another target.

        manner: of Manner, what holds of the owner and the target.
        file: the object that has the number; None where it was given as a number.
        Raises OSError if the file is not open (EBADF) or cannot be waited for (EPERM).
        """
        cdef Watch watch
        self.check_process()
        if fd < 0 or file is not None and not has_number(file, fd):
            raise os_error(EBADF, "epoll_ctl")  # before anything of the number's owner is touched
        watch = self.find(fd)
        if watch is not None and (self.is_dead(watch) or manner & OWNED and not watch.owned):
            self.forget(watch)
            watch = None
        if watch is None:
            watch = self.add(fd, direction, target, manner, file)
        else:
            # What is armed for an owned file may be of an earlier target.
            self.disarm(watch, direction)
            watch.set_target(direction, target)
            if file is not None:
                watch.file = file
            if direction == READ:
                watch.eager = (manner & CALLS_AGAIN) != 0
            if watch.nested:
                self.widen(watch, direction)
            else:
                self.arm(watch, direction)
        if self.sleeping:
            self.wake()  # another thread waits with what was armed before
        return watch

    cdef Watch add(self, int fd, int direction, object target, int manner, object file):
        """watch() of a number that is not watched yet."""
        cdef Watch watch = Watch.__new__(Watch, fd)
        watch.set_target(direction, target)
        watch.file = file
        watch.eager = (manner & CALLS_AGAIN) != 0
        watch.owned = (manner & OWNED) != 0
        watch.once = (manner & ONCE) != 0
        if watch.owned:
            self.arm(watch, direction)
            self.watch_end(watch)
        else:
            self.nest(watch)
        while len(self.watches) <= fd:
            self.watches.append(None)
        self.watches[fd] = watch
        self.nr_watched += 1
        return watch

    cdef int widen(self, Watch watch, int direction) except -1:
        """Has the epoll set wait for one more direction of a file, or for another target."""
        watch.once = watch.fired = False
        try:
            if self.control(self.epoll_fd, watch, EPOLL_CTL_MOD) == -ENOENT:
                # The number is another file's: what waited for the one before has lost it.
                if watch.file is None:
                    watch.set_target(1 - direction, None)
                self.nest(watch)
        except OSError:
            self.forget(watch)  # it is closed
            raise
        return 0

    cdef bint is_dead(self, Watch watch) except -1:
        """Whether the object that was watched does not have the number any more."""
        return watch.file is not None and not has_number(watch.file, watch.fd)

    cdef int forget(self, Watch watch) except -1:
        """Takes a watch off whose number is another file's; its targets wait for ever."""
        self.disarm(watch, READ)
        self.disarm(watch, WRITE)
        watch.reader = watch.writer = None
        self.watches[watch.fd] = None
        self.nr_watched -= 1
        self.nr_nested -= watch.nested
        watch.nested = False
        return 0

    cdef int keep(self, Watch watch) except -1:
        """Goes on waiting for a target of ONCE that has been handed over in vain."""
        if watch.once:
            watch.once = False
            if watch.fired and self.find(watch.fd) is watch:
                watch.fired = False
                self.nest(watch)
        return 0

    cdef int own(self, Watch watch) except -1:
        """The loop alone has the number from now on."""
        watch.owned = True
        watch.file = None
        return 0

    cdef int disown(self, Watch watch, object file) except -1:
        """Others can reach the number from now on, through `file`."""
        if self.find(watch.fd) is not watch:
            return 0
        if not watch.nested:
            self.nest(watch)  # first: it may fail
            self.disarm(watch, READ)
            self.disarm(watch, WRITE)
        watch.owned = False
        watch.file = file
        return 0

    cdef int again(self, Watch watch, bint hit) except -1:
        """What an eager reader says after each try: whether it found something to read.

        This is where a backend that polls once at a time arms the watch anew, or lets the reader
        try another time first.
        """
        return 0

    cdef object unwatch(self, Watch watch, int direction):
        """Forgets a direction of a file, and answers its target, or None.

        Of another watch that has taken its number nothing is touched.
        """
        if watch is None or watch.target(direction) is None or self.find(watch.fd) is not watch:
            return None
        target = watch.target(direction)
        watch.set_target(direction, None)
        self.disarm(watch, direction)
        if watch.target(1 - direction) is not None:
            if watch.nested:
                watch.once = watch.fired = False
                try:
                    # ENOENT, EBADF: it was closed, and nothing of it is left to be told.
                    self.control(self.epoll_fd, watch, EPOLL_CTL_MOD)
                except OSError as error:
                    if error.errno != EBADF and error.errno != EPERM:
                        raise
            return target
        self.watches[watch.fd] = None
        self.nr_watched -= 1
        if watch.nested or watch.end_in_epoll:
            self.leave_epoll(watch)
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

    # The epoll set

    cdef int nest(self, Watch watch) except -1:
        """Puts a file into the epoll set, or changes its place there.

        Raises OSError: EBADF if the object does not have the number any more, EPERM if the file
        cannot be waited for, ENOSPC beyond fs.epoll.max_user_watches.
        """
        cdef bint left = watch.fd < self.left_room and self.left_in_epoll[watch.fd]
        cdef int result
        self.generation = self.generation + 1 or 1
        watch.generation = self.generation
        watch.end_in_epoll = False
        result = self.control(self.epoll_fd, watch, EPOLL_CTL_MOD if left else EPOLL_CTL_ADD)
        if result < 0:
            # EEXIST: it was left there.  ENOENT: it was closed, and another has its number.
            left = not left
            result = self.control(self.epoll_fd, watch, EPOLL_CTL_MOD if left else EPOLL_CTL_ADD)
            if result < 0:
                raise os_error(-result, "epoll_ctl")
        if not watch.nested:
            watch.nested = True
            self.nr_nested += 1
        return 0

    cdef int watch_end(self, Watch watch) except -1:
        """Has the epoll set report the end of a file that is polled by other means."""
        return 0

    cdef int leave_epoll(self, Watch watch) except -1:
        """Takes a file out of the epoll set; one that was reported once is left there, disarmed."""
        self.nr_nested -= watch.nested
        watch.nested = watch.end_in_epoll = False
        if watch.once and watch.fired:
            self.note_left(watch.fd, True)
        elif not self.is_foreign() and self.epoll_fd >= 0:
            # Fails if it was closed before.  A stranger that has the number is not in the set.
            epoll_ctl(self.epoll_fd, EPOLL_CTL_DEL, watch.fd, NULL)
        return 0

    cdef int control(self, int epoll_fd, Watch watch, int operation) except? -1:
        """epoll_ctl(2) for the targets of a watch: 0, -EEXIST or -ENOENT; raises other errors."""
        cdef epoll_event event
        if self.is_foreign() or epoll_fd < 0:
            return 0  # the set is shared with the parent of the fork: it is not ours to change
        if watch.end_in_epoll:
            event.events = EPOLLRDHUP | EPOLLET
        else:
            event.events = ((POLL_IN if watch.reader is not None else 0)
                            | (POLL_OUT if watch.writer is not None else 0)
                            | (EPOLLONESHOT if watch.once else 0))
        event.data.u64 = <uint64_t>watch.generation << 32 | <uint32_t>watch.fd
        if watch.file is not None and not has_number(watch.file, watch.fd):
            raise os_error(EBADF, "epoll_ctl")
        if epoll_ctl(epoll_fd, operation, watch.fd, &event) == 0:
            return 0
        if errno != EEXIST and errno != ENOENT:
            raise os_error(errno, "epoll_ctl")
        return -errno

    cdef int note_left(self, int fd, bint left) except -1:
        """Notes that the epoll set may have a place of ONCE for a number that is not watched."""
        cdef int room = self.left_room
        if fd >= room:
            room = max(64, 2 * room, fd + 1)
            memory = PyMem_Realloc(self.left_in_epoll, room)
            if memory == NULL:
                raise MemoryError
            self.left_in_epoll = <char *>memory
            memset(self.left_in_epoll + self.left_room, 0, room - self.left_room)
            self.left_room = room
        self.left_in_epoll[fd] = left
        return 0

    cdef int rebuild_epoll(self) except -1:
        """Makes the epoll set anew, without the files that have no watch any more.

        Only while the ring has no poll of it: such a one would keep the old set.
        """
        cdef Watch watch
        cdef epoll_event event
        cdef int anew = epoll_create1(EPOLL_CLOEXEC)
        if anew < 0:
            return 0  # no descriptor is free: the next event of a dead file tries again
        try:
            if self.wakes_by_epoll:
                event.events = POLL_IN
                event.data.u64 = <uint64_t>self.wake_fd
                if epoll_ctl(anew, EPOLL_CTL_ADD, self.wake_fd, &event) != 0:
                    raise os_error(errno, "epoll_ctl")
            for watch in self.watches:
                if watch is None or not (watch.nested or watch.end_in_epoll) or (
                        watch.once and watch.fired):
                    continue
                try:
                    # The old set knows whether the number still is that file's.
                    if self.control(self.epoll_fd, watch, EPOLL_CTL_MOD) == 0:
                        self.control(anew, watch, EPOLL_CTL_ADD)
                except OSError as error:
                    if error.errno != EBADF and error.errno != EPERM:
                        return 0  # no room for another set: the next event tries again
            if dup3(anew, self.epoll_fd, O_CLOEXEC) < 0:
                raise os_error(errno, "dup3")
            if self.left_room:
                memset(self.left_in_epoll, 0, self.left_room)
            self.rebuilt += 1
        finally:
            close(anew)
        return 0

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
        cdef bint dead = False
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
            ready = self.epoll_events[i].events
            fd = <int>(self.epoll_events[i].data.u64 & 0xFFFFFFFF)
            if self.epoll_events[i].data.u64 == <uint64_t>self.wake_fd:
                self.drain_wake()
                continue
            watch = self.find(fd)
            if (watch is None or not (watch.nested or watch.end_in_epoll)
                    or watch.generation != self.epoll_events[i].data.u64 >> 32):
                dead = True
                continue
            watch.fired = True
            if ready & EPOLLRDHUP:
                ready |= POLL_IN
            for direction in range(2):
                if ready & (ASKED[direction] | POLL_ALWAYS):
                    self.hand_over(watch, direction)
            if self.is_dead(watch):
                # A duplicate keeps it there.  What was handed over meets EBADF, and nothing more comes.
                self.forget(watch)
                dead = True
        if dead:
            self.rebuild_epoll()
        return count

    cdef int hand_over(self, Watch watch, int direction) except -1:
        target = watch.target(direction)
        if target is not None:
            if watch.end_in_epoll and direction == READ:
                # The end and the poll may tell of the same: once a turn is enough.
                if watch.read_turn == <uint32_t>self.turns:
                    return 0
                watch.read_turn = <uint32_t>self.turns
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
            turns=self.turns, sleeps=self.sleeps, wakes=self.wakes, rebuilt=self.rebuilt)


@cython.final
cdef class EpollReactor(Reactor):
    """The backend for machines without AIO poll: all files are in the epoll set."""

    def __init__(self, ready):
        cdef epoll_event event
        self.backend = "epoll"
        self.wakes_by_epoll = True
        event.events = POLL_IN
        event.data.u64 = <uint64_t>self.wake_fd
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
