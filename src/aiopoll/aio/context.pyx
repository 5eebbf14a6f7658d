"""The context of Linux AIO: what submits requests and reaps their events.

Facts.  io_submit stops at the first bad request, and returns the reason only if that was the
first.  A request holds a slot until its event is reaped.  Events come through the mapped ring,
which has room for one reaper at a time (c/ring.h), or by io_getevents.

Rule.  aio_data carries index and generation of the request's record, so that an event is looked up
and checked, not dereferenced.  A batch that stops short is continued with a second call
(c/ring.h), which either goes on or returns the error and its request.  A context has one user at a
time: the thread that owns it, in the process that made it.  Where there is no GIL the methods are
critical sections, so that what enter() finds holds until the call waits in the kernel, or is over.

Why.  No event can reach a request it does not belong to, and no error is lost.

Cost.  A look at the thread and the fork guard for each call.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.errno cimport EINTR
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.time cimport timespec

from aiopoll.aio cimport abi
from aiopoll.aio.fork_guard cimport fork_guard_use, process_guard
from aiopoll.aio.iocb cimport Completion, Iocb, IoEvent, checked_int, in_use, masked_poll_result
from aiopoll.aio.ring cimport (
    RingBatch, ring_cancel, ring_detach, ring_init, ring_is_inherited, ring_pending,
    ring_reap, ring_submit,
)

import math
import os
import time
import warnings

from aiopoll.aio.errors import cancel_error, getevents_error, setup_error, submit_error
from aiopoll.aio.statistics import ContextStatistics

# What C keeps is there to the end of the interpreter; modules have been emptied by then.
cdef object warn = warnings.warn

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() nogil

fork_guard_use(process_guard())

cdef enum:
    NR_EVENTS_MAX = 0x400000  # fs/aio.c, ioctx_alloc: 0x10000000 bytes of events, and twice as many


cdef uint64_t kernel_sigset(object sigmask) except? 0:
    """The kernel's 64-bit sigset_t, with signal n in bit n-1; 0 for None."""
    cdef uint64_t mask = 0
    if sigmask is not None:
        for signum in sigmask:
            mask |= <uint64_t>1 << (<int>checked_int(signum, "signal number", 1, 64) - 1)
    return mask


cdef object checked_timeout(object timeout):
    """`timeout` in nanoseconds, or None for no limit."""
    if timeout is None:
        return None
    if isinstance(timeout, str) or not hasattr(timeout, "__float__"):
        raise TypeError(f"timeout must be seconds or None, not {type(timeout).__name__}")
    seconds = float(timeout)
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"timeout must be None or not negative, not {timeout!r}")
    # About 292 years; the kernel's ktime ends there too.
    return None if seconds > 9e9 else math.ceil(seconds * 1e9)


# Here, for a critical section guards no attributes of modules and types.

cdef bint wants_ring(object user_ring) except -1:
    return os.environ.get("AIOPOLL_USER_RING") != "0" if user_ring is None else user_ring


cdef object wrong_type(str rule, object item):
    return TypeError(f"{rule}, not {type(item).__name__}")


cdef object failure(int code, str call):
    return OSError(code, f"{call}: {os.strerror(code)}")


@cython.final
cdef class Context:
    """A submit and complete queue of Linux AIO: an io_context.

    nr_events: how many requests may be in flight; so many are taken of the machine's
        fs.aio-max-nr (65,536 by default) until close(). That many are guaranteed; the kernel
        happens to have room for about twice as many.
    user_ring: True reaps from the mapped ring where it is usable, False always by system call,
        None does as the environment variable AIOPOLL_USER_RING says (0: False), or True.

    A Context belongs to the thread and the process that made it: another thread gets
    RuntimeError (adopt() hands it over), and so does a child after fork.  close() may be called
    from any thread.  All methods raise ValueError once it is closed.

    Raises OSError, with the sysctl or the seccomp profile to change, where the kernel gives no
    context.  Source: io_setup(2).
    """

    def __cinit__(self):
        self.completions = []
        self.first_free = -1

    @cython.critical_section
    def __init__(self, nr_events=128, *, user_ring=None):
        cdef unsigned int nr = checked_int(nr_events, "nr_events", 1, NR_EVENTS_MAX)
        cdef abi.aio_context_t ctx = 0
        cdef long result
        cdef bint want_ring = wants_ring(user_ring)
        if self.nr_events != 0:
            raise RuntimeError("a Context is initialised once")
        self.nr_events = nr  # marks it: no other thread may come in while io_setup runs
        try:
            while True:
                with nogil:
                    result = abi.aio_sys_setup(nr, &ctx)
                if result != -EINTR:
                    break
                PyErr_CheckSignals()
            if result < 0:
                raise setup_error(-result, nr)
        except BaseException:
            self.nr_events = 0
            raise
        self.owner = PyThread_get_thread_ident()
        ring_init(&self.ring, ctx, nr, want_ring)
        self.ring_nr = self.ring.mapped.nr if self.ring.mapped != NULL else 0

    cdef int enter(self) except -1:
        """Raises unless this thread may use the context now."""
        if self.ring.ctx == 0:
            raise ValueError("this Context is closed")
        if ring_is_inherited(&self.ring):
            raise RuntimeError(
                "this Context belongs to the parent process: after fork() make a new one")
        if self.busy:
            raise RuntimeError("this Context is in use by another call that has not returned")
        if self.owner != PyThread_get_thread_ident():
            raise RuntimeError(
                "this Context belongs to another thread: call adopt() to take it over")
        return 0

    cdef Completion take_completion(self):
        cdef Completion completion
        if self.first_free >= 0:
            completion = self.completions[self.first_free]
            self.first_free = completion.next_free
        else:
            completion = Completion.__new__(Completion)
            completion.index = len(self.completions)
            self.completions.append(completion)
        self.in_flight += 1
        return completion

    cdef void release(self, Completion completion) noexcept:
        completion.finish()
        completion.next_free = self.first_free
        self.first_free = completion.index
        self.in_flight -= 1

    cdef Py_ssize_t nr_lost(self) except? -1:
        """For the debug build: the records that are neither in flight nor free."""
        cdef Py_ssize_t nr = len(self.completions) - self.in_flight, at = self.first_free
        cdef Completion completion
        while at >= 0 and nr >= 0:
            completion = self.completions[at]
            assert not in_use(completion) and completion.nr_views == 0, "a buffer was kept"
            at = completion.next_free
            nr -= 1
        return nr

    @cython.critical_section
    def submit(self, iocbs):
        """Submits the requests in one io_submit, and returns how many: all of them.

        Raises SubmitError, an OSError, if the kernel refuses one: its `index` is the request's, the
        requests before it are in flight, those after it were not tried.  TypeError and
        BufferError are raised before anything is submitted.

        A second io_submit is made only where the first one stopped short, to learn why.
        Reads and writes of files that are not opened O_DIRECT happen within the call, and may
        block in it (the GIL is released).  Source: io_submit(2).
        """
        cdef list started = []
        cdef RingBatch to_submit
        cdef Py_ssize_t nr, i
        cdef Completion completion
        cdef Iocb request
        if isinstance(iocbs, Iocb):
            raise TypeError("submit() takes a sequence of Iocb: write submit([iocb])")
        batch = list(iocbs)
        for item in batch:
            if not isinstance(item, Iocb):
                raise wrong_type("submit() takes Iocb objects", item)
        self.enter()
        nr = len(batch)
        if nr == 0:
            return 0
        to_submit.iocbs = <abi.iocb **>PyMem_Malloc(nr * sizeof(abi.iocb *))
        if to_submit.iocbs == NULL:
            raise MemoryError
        to_submit.nr = nr
        to_submit.taken = to_submit.error = 0
        # Only the program reaps its events: EAGAIN goes to it at once.
        to_submit.reaped = True
        self.busy = True
        try:
            for i in range(nr):
                completion = self.take_completion()
                started.append(completion)
                completion.start(batch[i])
                to_submit.iocbs[i] = &completion.iocb
            with nogil:
                ring_submit(&self.ring, &to_submit)
        finally:
            PyMem_Free(to_submit.iocbs)
            # Still busy: releasing a buffer may run Python code, which must not come in here.
            for i in range(to_submit.taken, len(started)):
                self.release(started[i])
            for i in range(to_submit.taken):
                request = batch[i]
                completion = started[i]
                request.last_index = completion.index
            self.busy = False
        if to_submit.taken < nr:
            request = batch[to_submit.taken]
            raise submit_error(to_submit.error, request,
                               request.prototype.aio_lio_opcode == abi.IOCB_CMD_POLL,
                               to_submit.taken, nr)
        return to_submit.taken

    @cython.critical_section
    def reap(self, min_nr=1, max_nr=None, timeout=None, sigmask=None):
        """Waits for events and returns them, oldest first, as a list of IoEvent.

        min_nr: return when so many are there; 0 does not wait.
        max_nr: return no more than this; None for all that are there.
        timeout: seconds, or None to wait as long as it takes.  When it has passed, what is there
            is returned, be it nothing.
        sigmask: the signals to block during the wait and only then (io_pgetevents); None leaves
            the thread's mask alone.

        Interruption by a signal runs Python's handlers and goes on waiting, as PEP 475 has it;
        with a `sigmask` it raises InterruptedError after the handlers, for that is what one
        waits for then.  Events that are in the ring are taken without a system call.

        Raises ValueError if the wait could never end: no timeout, no sigmask, and fewer
        requests in flight than `min_nr`.  Source: io_getevents(2), io_pgetevents(2).
        """
        # The arguments first: they may run Python code, which may use this Context.
        cdef Py_ssize_t least = checked_int(min_nr, "min_nr", 0, NR_EVENTS_MAX)
        cdef Py_ssize_t most = 2**62
        cdef uint64_t mask = kernel_sigset(sigmask)
        timeout_ns = checked_timeout(timeout)
        if max_nr is not None:
            most = checked_int(max_nr, "max_nr", 1, 2**62)
            if most < least:
                raise ValueError(f"max_nr={max_nr} is less than min_nr={min_nr}")
        self.enter()
        most = min(most, max(1, least, self.in_flight))
        if timeout_ns is None and sigmask is None and least > self.in_flight:
            raise ValueError(
                f"reap(min_nr={least}) would wait for ever: {self.in_flight} requests in flight")
        return self.take(least, most, timeout_ns, NULL if sigmask is None else &mask, True)

    @cython.critical_section
    def getevents(self, min_nr, nr, timeout_ns=None, sigmask=None):
        """Waits as io_getevents does (with a `sigmask` as io_pgetevents does), once.

        Unlike reap() it raises InterruptedError after any signal's handlers, waits for events
        that no request in flight can bring, and takes its timeout in nanoseconds.  reap() is
        for programs; this is for code that must show the kernel's own behaviour, as
        aiopoll.libaio does.

        Raises ValueError unless 0 <= min_nr <= nr.  Source: io_getevents(2).
        """
        cdef Py_ssize_t most = checked_int(nr, "nr", 0, NR_EVENTS_MAX)
        cdef Py_ssize_t least = checked_int(min_nr, "min_nr", 0, most)
        cdef uint64_t mask = kernel_sigset(sigmask)
        if timeout_ns is not None:
            timeout_ns = checked_int(timeout_ns, "timeout_ns", 0, 2**63 - 1)
        self.enter()
        return self.take(least, most, timeout_ns, NULL if sigmask is None else &mask, False)

    cdef list take(self, Py_ssize_t least, Py_ssize_t most, object timeout_ns,
                   const uint64_t *sigmask, bint restart):
        """The events, from the ring where it has enough of them, else by system call."""
        self.reserve_events(most)
        if self.ring.mapped != NULL and sigmask == NULL:
            if least == 0 or timeout_ns == 0 or ring_pending(&self.ring) >= least:
                return self.collect(ring_reap(&self.ring, self.events, most))
        return self.collect(self.wait(least, most, timeout_ns, sigmask, restart))

    cdef long wait(self, long min_nr, long nr, object timeout_ns, const uint64_t *sigmask,
                   bint restart) except? -1:
        """io_getevents or, with a sigmask, io_pgetevents; returns the number of events.

        `restart`: whether to go on waiting after a signal; never with a `sigmask`.
        """
        cdef timespec timeout
        cdef timespec *timeout_pointer = NULL
        cdef bint with_mask = sigmask != NULL
        cdef int64_t remaining_ns
        cdef long result
        name = "io_pgetevents" if with_mask else "io_getevents"
        deadline_ns = None if timeout_ns is None else time.monotonic_ns() + timeout_ns
        while True:
            if deadline_ns is not None:
                remaining_ns = max(0, deadline_ns - time.monotonic_ns()) if timeout_ns else 0
                timeout.tv_sec = remaining_ns // 1_000_000_000
                timeout.tv_nsec = remaining_ns % 1_000_000_000
                timeout_pointer = &timeout
            self.busy = True
            with nogil:
                if with_mask:
                    result = abi.aio_sys_pgetevents(self.ring.ctx, min_nr, nr, self.events,
                                                    timeout_pointer, sigmask)
                else:
                    result = abi.aio_sys_getevents(self.ring.ctx, min_nr, nr, self.events,
                                                   timeout_pointer)
            self.busy = False
            self.ring.counters.getevents_calls += 1
            if result >= 0:
                return result
            if result != -EINTR:
                raise getevents_error(-result, with_mask)
            PyErr_CheckSignals()
            self.enter()
            if with_mask or not restart:
                raise InterruptedError(EINTR, f"{name}: interrupted by a signal")
            if deadline_ns is None and min_nr > self.in_flight:
                return 0  # a signal handler reaped the events
            self.reserve_events(nr)

    cdef int reserve_events(self, Py_ssize_t nr) except -1:
        if nr > self.events_room:
            events = <abi.io_event *>PyMem_Realloc(self.events, nr * sizeof(abi.io_event))
            if events == NULL:
                raise MemoryError
            self.events = events
            self.events_room = nr
        return 0

    cdef list collect(self, Py_ssize_t count):
        """Turns the first `count` of self.events into IoEvents and releases their records."""
        cdef list result = []
        cdef abi.io_event *raw
        cdef Completion completion
        cdef IoEvent event
        cdef uint64_t index
        cdef Py_ssize_t i
        # Nothing that runs meanwhile (a finalizer) may reap into the same array.
        self.busy = True
        try:
            for i in range(count):
                raw = &self.events[i]
                index = <uint32_t>raw.data
                if index >= <uint64_t>len(self.completions):
                    continue
                completion = self.completions[index]
                if completion.generation != raw.data >> 32 or not in_use(completion):
                    continue
                event = IoEvent.__new__(IoEvent)
                event.data = completion.data
                event.obj = completion.request
                event.res = raw.res
                event.res2 = raw.res2
                if raw.res > 0 and completion.iocb.aio_lio_opcode == abi.IOCB_CMD_POLL:
                    event.res = masked_poll_result(completion, raw.res)
                self.release(completion)
                self.ring.counters.completed += 1
                result.append(event)
        finally:
            self.busy = False
        return result

    cdef Completion find(self, Iocb request):
        """The request's record: one not cancelled yet if there is one, else any, else None."""
        cdef Completion completion, cancelled = None
        if 0 <= request.last_index < len(self.completions):
            completion = self.completions[request.last_index]
            if completion.request is request and not completion.cancelled:
                return completion
        for completion in self.completions:
            if completion.request is request:
                if not completion.cancelled:
                    return completion
                cancelled = completion
        return cancelled

    @cython.critical_section
    def cancel(self, iocb):
        """Asks the kernel to cancel a POLL that is in flight.

        The request still has exactly one event, with res 0, which comes through reap(); until
        then it holds its slot.  That it is there at once is likely, not guaranteed.

        Raises ValueError if `iocb` is not in flight here, OSError (EINVAL) if it cannot be
        cancelled: it has completed, was cancelled before, or is a read or write.  Its event
        comes all the same.  Source: io_cancel(2), which for a POLL returns EINPROGRESS.
        """
        cdef Completion completion
        cdef long result
        if not isinstance(iocb, Iocb):
            raise wrong_type("cancel() takes an Iocb", iocb)
        self.enter()
        completion = self.find(iocb)
        if completion is None:
            raise ValueError(f"{iocb!r} is not in flight in this Context")
        result = ring_cancel(&self.ring, &completion.iocb)
        if result < 0:
            raise cancel_error(-result, iocb, completion.cancelled)
        completion.cancelled = True

    @cython.critical_section
    def adopt(self):
        """Makes the calling thread the owner.  Raises RuntimeError while a call is running."""
        self.owner, previous = PyThread_get_thread_ident(), self.owner
        try:
            self.enter()
        except BaseException:
            self.owner = previous
            raise

    @cython.critical_section
    def close(self):
        """Cancels the polls, waits for reads and writes, and gives the slots back.

        Events not reaped are discarded.  Takes some tens of milliseconds in the kernel, with the
        GIL released, and longer only while a device works on a read or write.  Closing again
        does nothing; in a child after fork only the memory is let go.
        Raises RuntimeError while another thread is inside a call.  Source: io_destroy(2).
        """
        cdef abi.aio_context_t ctx
        cdef long result = 0
        if self.ring.ctx == 0:
            return
        assert self.nr_lost() == 0, "a completion was lost"
        if self.busy and not ring_is_inherited(&self.ring):
            raise RuntimeError("this Context is in use by another call that has not returned")
        ctx = ring_detach(&self.ring)
        if ctx:
            with nogil:
                result = abi.aio_sys_destroy(ctx)
        del self.completions[:]
        self.first_free = -1
        self.in_flight = 0
        if result < 0:
            raise failure(-result, "io_destroy")

    @property
    def closed(self):
        """Whether close() was called."""
        return self.ring.ctx == 0

    @property
    def user_ring(self):
        """Whether events are reaped from the mapped ring, without a system call."""
        return self.ring.mapped != NULL

    @cython.critical_section
    def events_pending(self):
        """Whether reap(0) would return events, by a look at the ring: no system call.

        False where the ring is not usable (`user_ring`).
        """
        self.enter()
        return ring_pending(&self.ring) > 0

    @cython.critical_section
    def statistics(self):
        """The counters, as a ContextStatistics."""
        return ContextStatistics(
            nr_events=self.nr_events,
            ring_nr=self.ring_nr,
            in_flight=self.in_flight,
            submitted=self.ring.counters.submitted,
            refused=self.ring.counters.refused,
            completed=self.ring.counters.completed,
            cancelled=self.ring.counters.cancelled,
            submit_calls=self.ring.counters.submit_calls,
            getevents_calls=self.ring.counters.getevents_calls,
            ring_reaps=self.ring.counters.ring_reaps,
        )

    def __enter__(self):
        self.enter()
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __repr__(self):
        if self.ring.ctx == 0:
            return "<Context closed>"
        return f"<Context nr_events={self.nr_events} in_flight={self.in_flight}>"

    def __del__(self):
        if self.ring.ctx != 0 and not ring_is_inherited(&self.ring):
            try:
                warn(f"unclosed {self!r}", ResourceWarning, source=self)
            finally:
                self.close()

    def __dealloc__(self):
        PyMem_Free(self.events)
