"""The reactor: what its backends share.

Facts.  A watched file has to stay watched after it was ready (level-triggered).  A parked AIO
poll keeps its file open: after the owner's close(2) the peer sees no end, a listener goes on
accepting.  An epoll set does not: it knows a file by its struct file and the number that it was
added under, and drops it when the last descriptor of it is closed.  A duplicate keeps it in the
set, under a number that may be another file's by then: it is reported, and cannot be removed
(fs/eventpoll.c, ep_find: EPOLL_CTL_DEL and MOD look for the file that has the number now).

Rule.  A Registration is a file with up to two callbacks, one for reading, one for writing.  Where
the loop alone has the number (OWNED) its backend may wait as it likes, and unregister() comes
before close(2).  All other numbers live in the epoll set, which each backend has: on epoll it is
what the reactor sleeps in, on AIO its descriptor is polled on the ring.  An entry of the set
carries a generation: an event of a file that was closed, and that a duplicate keeps there, is
dropped, and the set is made anew without it.  A Registration whose file has lost its number is
forgotten when the number is registered for another file.  After a fork the child touches neither
ring nor set.

Why.  One set for the files that AIO poll must not keep open, refuses, or finds no slot for is one
mechanism; any number of idle files costs one slot.

Failure prevented.  A task waits for descriptor 7, whose owner closes it and keeps a duplicate.
Another socket gets 7 and is registered.  Data for the duplicate is reported under 7: by the number
alone the stranger's reader would run, find nothing, and run again for ever.

Cost.  Two descriptors a reactor: the epoll set and the eventfd that wakes it.  One epoll_ctl for
each wait of ONCE, two for each other file that is registered and forgotten.

No asyncio name occurs here: a callback is any object, put into the queue when its file is ready.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport EBADF, EEXIST, EINTR, ENOENT, EPERM, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.unistd cimport close

from aiopoll.aio.fork_guard cimport (
    fork_guard_now, fork_guard_use, is_forked_child, process_guard,
)
from aiopoll.aio.free_threading cimport FREE_THREADED
from aiopoll.reactor.descriptor cimport has_number
from aiopoll.reactor.registration cimport (
    AFTER_EVENT, FORGOTTEN, LEVEL, ONCE, ONE_SHOT, OWNED, READ, REARMS_ITSELF, RING_END,
    SPECULATIVELY, SPENT, WRITE, Registration, State, has_entry, in_epoll,
)
from aiopoll.reactor.trace_buffer cimport (
    TRACE_READY, TRACE_WAKE, TraceBuffer, native_thread, trace_note,
)

import os

from aiopoll.reactor.statistics import ReactorStatistics

cdef extern from "<fcntl.h>" nogil:
    enum:
        O_CLOEXEC

cdef extern from "<unistd.h>" nogil:
    int dup3(int old, int new, int flags)

fork_guard_use(process_guard())

cdef int[2] ASKED
ASKED[0] = POLL_IN
ASKED[1] = POLL_OUT


cdef object os_error(int code, str call):
    return OSError(code, f"{call}: {os.strerror(code)}")


cdef class Reactor:
    """The base of both backends: the registrations, the epoll set, the wake-up.

    ready: where the callback of each direction of a file that is ready is put.
    report: called with a descriptor and an OSError where it cannot be polled at present.
    """

    def __cinit__(self, *args, **options):
        # Whatever the arguments are: where one is refused, the descriptor 0 would be closed.
        self.epoll_fd = self.wakeup.fd = -1
        if not args or not isinstance(args[0], ReadyQueue):
            raise TypeError("ready must be a ReadyQueue")
        self.ready = args[0]
        self.registrations = []
        self.trace_buffers = []
        self.use_pwait2 = 1
        self.made_in = fork_guard_now()
        self.reserve_epoll_events(EVENTS_MAX)
        self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll_fd < 0:
            raise os_error(errno, "epoll_create1")
        if wakeup_open(&self.wakeup) < 0:
            raise os_error(errno, "eventfd")

    def __dealloc__(self):
        if self.epoll_fd >= 0:
            close(self.epoll_fd)
        if self.wakeup.fd >= 0:
            close(self.wakeup.fd)
        PyMem_Free(self.epoll_events)
        PyMem_Free(self.left_in_epoll)

    @property
    def closed(self):
        """Whether close() was called."""
        return self.epoll_fd < 0

    cdef int set_trace(self, TraceBuffer buffer) except -1:
        """Records what is done from now on; None ends that.  Only where no poll is going on."""
        if not FREE_THREADED:  # else another thread may be in wake()
            self.trace_buffers.clear()
        if buffer is not None and buffer not in self.trace_buffers:
            self.trace_buffers.append(buffer)
        self.trace = NULL if buffer is None else &buffer.records
        return 0

    cdef bint is_forked_child(self) noexcept:
        """Whether this is the child of a fork: ring and epoll set are the parent's."""
        return is_forked_child(self.made_in)

    cdef int check_process(self) except -1:
        if self.epoll_fd < 0:
            raise RuntimeError("Event loop is closed")
        if self.is_forked_child():
            raise RuntimeError("this event loop belongs to the parent process: after fork() make"
                               " a new one")
        return 0

    cdef Registration find(self, int fd):
        if 0 <= fd < len(self.registrations):
            return self.registrations[fd]
        return None

    cdef int enter(self, Registration registration, State state) except -1:
        """Changes the state of a registration, and counts those in the epoll set."""
        self.nr_in_epoll -= in_epoll(registration)
        registration.enter(state)
        self.nr_in_epoll += in_epoll(registration)
        return 0

    cdef Registration register(self, int fd, int direction, object callback, int flags,
                               object file):
        """Dispatches `callback` in each iteration that finds `fd` ready; replaces another one.

        flags: of Flags, what holds of the owner and the callback.
        file: the object that has the number; None where it was given as a number.
        Raises OSError if the file is not open (EBADF) or cannot be polled (EPERM).
        """
        cdef Registration registration
        self.check_process()
        if fd < 0 or file is not None and not has_number(file, fd):
            raise os_error(EBADF, "epoll_ctl")  # before anything of the number's owner is touched
        registration = self.find(fd)
        if registration is not None and (
                self.has_lost_number(registration) or flags & OWNED and not registration.owned):
            self.forget(registration)
            registration = None
        if registration is None:
            registration = self.add(fd, direction, callback, flags, file)
        else:
            # A poll that is armed for an owned file may be of an earlier callback.
            self.disarm(registration, direction)
            registration.set_callback(direction, callback)
            if file is not None:
                registration.file = file
            if direction == READ:
                registration.reading = SPECULATIVELY if flags & REARMS_ITSELF else AFTER_EVENT
            if in_epoll(registration):
                self.widen(registration, direction)
            else:
                self.arm(registration, direction)
        if wakeup_is_asleep(&self.wakeup):
            self.wake()  # another thread waits with the polls that were armed before
        return registration

    cdef Registration add(self, int fd, int direction, object callback, int flags, object file):
        """register() of a number that is not registered yet."""
        cdef Registration registration = Registration.__new__(Registration, fd)
        registration.set_callback(direction, callback)
        registration.file = file
        registration.reading = SPECULATIVELY if flags & REARMS_ITSELF else AFTER_EVENT
        registration.owned = (flags & OWNED) != 0
        if registration.owned:
            self.arm(registration, direction)
            self.watch_end(registration)
        else:
            self.move_to_epoll(registration, ONE_SHOT if flags & ONCE else LEVEL)
        while len(self.registrations) <= fd:
            self.registrations.append(None)
        self.registrations[fd] = registration
        self.nr_registered += 1
        return registration

    cdef int widen(self, Registration registration, int direction) except -1:
        """Has the epoll set wait for one more direction of a file, or for another callback."""
        try:
            if self.control(self.epoll_fd, EPOLL_CTL_MOD, registration, LEVEL,
                            registration.generation) == -ENOENT:
                # The number is another file's: what waited for the one before has lost it.
                if registration.file is None:
                    registration.set_callback(1 - direction, None)
                self.move_to_epoll(registration, LEVEL)
            else:
                self.enter(registration, LEVEL)
        except OSError:
            self.forget(registration)  # it is closed
            raise
        return 0

    cdef bint has_lost_number(self, Registration registration) except -1:
        """Whether the object that was registered does not have the number any more."""
        return registration.file is not None and not has_number(registration.file, registration.fd)

    cdef int forget(self, Registration registration) except -1:
        """Takes off a registration whose number is another file's; its callbacks wait for ever."""
        self.disarm(registration, READ)
        self.disarm(registration, WRITE)
        registration.reader = registration.writer = None
        return self.drop(registration)

    cdef int drop(self, Registration registration) except -1:
        self.registrations[registration.fd] = None
        self.nr_registered -= 1
        return self.enter(registration, FORGOTTEN)

    cdef int rearm(self, Registration registration) except -1:
        """Goes on waiting for a callback of ONCE that has been dispatched in vain."""
        if registration.state == SPENT:
            self.move_to_epoll(registration, LEVEL)
        return 0

    cdef int own(self, Registration registration) except -1:
        """The loop alone has the number from now on."""
        registration.owned = True
        registration.file = None
        return self.move_to_ring(registration)

    cdef int move_to_ring(self, Registration registration) except -1:
        """Polls an owned file by requests of its own again, where the backend has a ring."""
        return 0

    cdef int disown(self, Registration registration, object file) except -1:
        """Others can reach the number from now on, through `file`."""
        if registration.state == FORGOTTEN:
            return 0
        if not in_epoll(registration):
            self.move_to_epoll(registration, LEVEL)  # first: it may fail
            self.disarm(registration, READ)
            self.disarm(registration, WRITE)
        registration.owned = False
        registration.file = file
        return 0

    cdef int read_done(self, Registration registration, bint hit) except -1:
        """A reader of REARMS_ITSELF calls it after each try: whether it found something to read.

        This is where a backend that polls once at a time arms the registration anew, or lets the
        reader try another time first.
        """
        return 0

    cdef object unregister(self, Registration registration, int direction):
        """Forgets a direction of a file, and returns its callback, or None.

        Of another registration that has taken its number nothing is touched.
        """
        if registration is None or registration.callback(direction) is None or (
                registration.state == FORGOTTEN):
            return None
        callback = registration.callback(direction)
        registration.set_callback(direction, None)
        self.disarm(registration, direction)
        if registration.callback(1 - direction) is None:
            if has_entry(registration):
                self.leave_epoll(registration)
            self.drop(registration)
        elif in_epoll(registration):
            self.enter(registration, LEVEL)
            try:
                # ENOENT, EBADF: it was closed, and nothing of it is left to be reported.
                self.control(self.epoll_fd, EPOLL_CTL_MOD, registration, LEVEL,
                             registration.generation)
            except OSError as error:
                if error.errno != EBADF and error.errno != EPERM:
                    raise
        return callback

    cdef int descriptor_of(self, object file) except -2:
        """The descriptor that an object had when its file was registered; -1 for none."""
        cdef Registration registration
        if file is not None:
            for registration in self.registrations:
                if registration is not None and registration.file is file:
                    return registration.fd
        return -1

    cdef object callback_of(self, int fd, int direction):
        """The callback of a direction, or None."""
        cdef Registration registration = self.find(fd)
        return None if registration is None else registration.callback(direction)

    cdef int arm(self, Registration registration, int direction) except -1:
        raise NotImplementedError

    cdef int disarm(self, Registration registration, int direction) except -1:
        raise NotImplementedError

    # The epoll set

    cdef int move_to_epoll(self, Registration registration, State state) except -1:
        """Puts a file into the epoll set, or changes its entry there.

        state: LEVEL or ONE_SHOT.
        Raises OSError: EBADF if the object does not have the number any more, EPERM if the file
        cannot be polled, ENOSPC beyond fs.epoll.max_user_watches.
        """
        cdef int fd = registration.fd
        cdef bint left = fd < self.left_room and self.left_in_epoll[fd]
        cdef uint32_t generation = self.next_generation()
        cdef int result = self.control(self.epoll_fd, EPOLL_CTL_MOD if left else EPOLL_CTL_ADD,
                                       registration, state, generation)
        if result < 0:
            # EEXIST: it was left there.  ENOENT: it was closed, and another has its number.
            left = not left
            result = self.control(self.epoll_fd, EPOLL_CTL_MOD if left else EPOLL_CTL_ADD,
                                  registration, state, generation)
            if result < 0:
                raise os_error(-result, "epoll_ctl")
        registration.generation = generation
        return self.enter(registration, state)

    cdef uint32_t next_generation(self) noexcept:
        self.generation = self.generation + 1 or 1
        return self.generation

    cdef int watch_end(self, Registration registration) except -1:
        """Has the epoll set report the end of a file that is polled by other means."""
        return 0

    cdef int leave_epoll(self, Registration registration) except -1:
        """Takes a file out of the epoll set; one that was reported once is left there, disarmed."""
        if registration.state == SPENT:
            self.note_left(registration.fd, True)
        elif not self.is_forked_child() and self.epoll_fd >= 0:
            # Fails if it was closed before.  A stranger that has the number is not in the set.
            traced_epoll_ctl(self.trace, self.epoll_fd, EPOLL_CTL_DEL, registration.fd, NULL)
        return 0

    cdef int control(self, int epoll_fd, int operation, Registration registration, State state,
                     uint32_t generation) except? -1:
        """epoll_ctl(2) for what a state asks: 0, -EEXIST or -ENOENT; raises other errors."""
        cdef epoll_event event
        if self.is_forked_child() or epoll_fd < 0:
            return 0  # the set is shared with the parent of the fork: it is not ours to change
        if state == RING_END:
            event.events = EPOLLRDHUP | EPOLLET
        else:
            event.events = ((POLL_IN if registration.reader is not None else 0)
                            | (POLL_OUT if registration.writer is not None else 0)
                            | (EPOLLONESHOT if state == ONE_SHOT else 0))
        event.data.u64 = <uint64_t>generation << 32 | <uint32_t>registration.fd
        if self.has_lost_number(registration):
            raise os_error(EBADF, "epoll_ctl")
        if traced_epoll_ctl(self.trace, epoll_fd, operation, registration.fd, &event) == 0:
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

    cdef int add_wakeup(self, int epoll_fd) except -1:
        """Has an epoll set wait for the wake-up."""
        cdef epoll_event event
        event.events = POLL_IN
        event.data.u64 = <uint64_t>self.wakeup.fd
        if traced_epoll_ctl(self.trace, epoll_fd, EPOLL_CTL_ADD, self.wakeup.fd, &event) != 0:
            raise os_error(errno, "epoll_ctl")
        return 0

    cdef int rebuild_epoll(self) except -1:
        """Makes the epoll set anew, without the files that have no registration any more.

        Only while the ring has no poll of it: such a one would keep the old set.
        """
        cdef Registration registration
        cdef State state
        cdef uint32_t generation
        cdef int anew = epoll_create1(EPOLL_CLOEXEC)
        if anew < 0:
            return 0  # no descriptor is free: the next event of a dead file tries again
        try:
            if self.wakes_by_epoll:
                self.add_wakeup(anew)
            for registration in self.registrations:
                if registration is None or not has_entry(registration) or (
                        registration.state == SPENT):
                    continue
                state = <State>registration.state
                generation = registration.generation
                try:
                    # The old set knows whether the number still is that file's.
                    if self.control(self.epoll_fd, EPOLL_CTL_MOD, registration, state,
                                    generation) == 0:
                        self.control(anew, EPOLL_CTL_ADD, registration, state, generation)
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

    cdef int poll_epoll(self, int64_t timeout_ns) except -1:
        """Dispatches the files that are ready in the epoll set, waiting as poll() does.

        Returns how many the kernel gave: more may be ready where that is `epoll_room`.
        """
        cdef long count, i
        cdef int fd, ready, direction
        cdef bint dead = False
        cdef Registration registration
        if timeout_ns == 0:
            count = traced_epoll_wait(self.trace, self.epoll_fd, self.epoll_room,
                                      self.epoll_events, 0, &self.use_pwait2)
        else:
            with nogil:
                sleep_time_begin(&self.sleep_time)
                count = traced_epoll_wait(self.trace, self.epoll_fd, self.epoll_room,
                                          self.epoll_events, timeout_ns, &self.use_pwait2)
                sleep_time_end(&self.sleep_time)
            self.after_sleep()
        if count == -EINTR:
            PyErr_CheckSignals()
            return 0
        if count < 0:
            raise os_error(-count, "epoll_wait")
        for i in range(count):
            ready = self.epoll_events[i].events
            fd = <int><uint32_t>self.epoll_events[i].data.u64
            if self.epoll_events[i].data.u64 == <uint64_t>self.wakeup.fd:
                wakeup_drain(&self.wakeup)
                continue
            registration = self.find(fd)
            if registration is None or not has_entry(registration) or (
                    registration.generation != self.epoll_events[i].data.u64 >> 32):
                dead = True
                continue
            if self.trace != NULL:
                trace_note(self.trace, TRACE_READY, fd, ready, 1)
            if registration.state == ONE_SHOT:
                self.enter(registration, SPENT)
            if ready & EPOLLRDHUP:
                ready |= POLL_IN
            for direction in range(2):
                if ready & (ASKED[direction] | POLL_ALWAYS):
                    self.dispatch(registration, direction)
            if self.has_lost_number(registration):
                # A duplicate keeps it there.  Its callback, once more, meets EBADF.
                self.forget(registration)
                dead = True
        if dead:
            self.rebuild_epoll()
        return count

    cdef int dispatch(self, Registration registration, int direction) except -1:
        """Puts the callback of a direction into the ready queue."""
        callback = registration.callback(direction)
        if callback is not None:
            if registration.state == RING_END and direction == READ:
                # The end and the poll may report the same: once an iteration is enough.
                if registration.read_iteration == <uint32_t>self.iterations:
                    return 0
                registration.read_iteration = <uint32_t>self.iterations
            self.nr_dispatched += 1
            self.ready.push(callback)
        return 0

    cdef int begin(self) except -1:
        """Begins an iteration, which sets `polling` back at its end."""
        self.check_process()
        if self.polling:
            raise RuntimeError("the reactor is in use")
        self.polling = True
        self.iterations += 1
        self.nr_dispatched = 0
        return 0

    cdef int poll(self, int64_t timeout_ns) except -1:
        """Dispatches all that is ready; waits for it up to `timeout_ns`, for ever if negative.

        May return early with nothing: after a signal, a wake(), or an event that was stale.
        """
        raise NotImplementedError

    cdef int before_sleep(self) noexcept:
        wakeup_before_sleep(&self.wakeup)
        return 0

    cdef int after_sleep(self) noexcept:
        wakeup_after_sleep(&self.wakeup)
        if self.sleep_time.woken_at_ns:
            self.ready.now_ns = self.sleep_time.woken_at_ns  # what is ready now was not before
        return 0

    cdef int wake(self) noexcept:
        """Makes poll() return if another thread sleeps in it; else does nothing (c/wakeup.h)."""
        if self.trace != NULL and wakeup_is_asleep(&self.wakeup):
            trace_note(self.trace, TRACE_WAKE, native_thread(), 0, 0)
        if not self.is_forked_child():
            wakeup_wake(&self.wakeup)
        return 0

    cdef bint pending(self) noexcept:
        """Whether events wait, by a look at memory."""
        return False

    cdef bint idle(self) noexcept:
        """Whether a poll() that does not wait would do nothing, by a look at memory."""
        return False

    cdef Py_ssize_t count_leaked(self) except? -1:
        """For the debug build: cancels everything, and returns how many requests have no end."""
        return 0

    cdef int shutdown(self) except -1:
        return 0

    def close(self):
        """Gives descriptors and slots back; closing again does nothing.

        In the child of a fork the ring and the epoll set are left to the parent.
        """
        cdef Registration registration
        cdef int failed
        if self.polling:
            raise RuntimeError("the reactor is in use")
        if self.epoll_fd < 0:
            return
        registered = [registration for registration in self.registrations
                      if registration is not None]
        assert self.nr_registered == len(registered), "a registration was lost"
        assert self.nr_in_epoll == sum([in_epoll(registration) for registration in registered])
        assert self.is_forked_child() or self.count_leaked() == 0, (
            f"a request and its slot leaked: {self.statistics()}")
        self.shutdown()
        failed = close(self.epoll_fd) | close(
            wakeup_detach(&self.wakeup, self.is_forked_child()))
        self.epoll_fd = -1
        for registration in registered:
            registration.state = FORGOTTEN
        self.registrations.clear()
        self.nr_registered = self.nr_in_epoll = 0
        assert not failed, "other code has closed a descriptor of the reactor"

    def watched(self):
        """The registrations, as a dict: descriptor to (callback for reading, for writing)."""
        cdef Registration registration
        return {registration.fd: (registration.reader, registration.writer)
                for registration in self.registrations if registration is not None}

    def statistics(self):
        """The counters, as a ReactorStatistics."""
        return ReactorStatistics(
            backend=self.backend, watched=self.nr_registered, in_epoll=self.nr_in_epoll,
            iterations=self.iterations, sleeps=self.sleeps, wakes=self.wakeup.count,
            rebuilt=self.rebuilt)
