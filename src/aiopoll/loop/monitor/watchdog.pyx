"""Watches loops by a thread of C, and looks at their stacks with the GIL.

c/watchdog.h has the rule.  Here is the reporter, a daemon thread of Python: it sleeps without the
GIL until the watchdog asks for it.  What the loop's thread does while another thread has the GIL
decides what kind of stall it is: code of Python waits for the GIL then, all else goes on.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport int64_t, uint64_t

from aiopoll.aio.fork_guard cimport (
    fork_guard_now, fork_guard_use, is_forked_child, process_guard,
)
from aiopoll.aio.free_threading cimport FREE_THREADED

import asyncio
import atexit
import os
import sys
import threading

from aiopoll.loop.monitor import observation

cdef extern from "Python.h":
    ctypedef struct PyFrameObject

    ctypedef struct PyCodeObject

    PyFrameObject *PyFrame_GetBack(PyFrameObject *frame)
    PyCodeObject *PyFrame_GetCode(PyFrameObject *frame)
    int PyFrame_GetLineNumber(PyFrameObject *frame)

cdef extern from "watchdog.h" nogil:
    struct the_watchdog "watchdog":
        int64_t grace_ns

    the_watchdog watchdog

    void watchdog_init()
    int watchdog_start()
    bint watchdog_wait()
    void watchdog_stop()
    void watch_enter(CWatch *watch)
    void watch_leave(CWatch *watch)
    WatchState watch_take(CWatch *watch)
    bint watch_is_same(CWatch *watch)
    void sample_thread(int tid, Sample *sample)
    void sample_with_gil(int tid, const Sample *before, long interval_us, Sample *now)
    const char *call_name_text(long number)
    bint call_is_futex(long number)

cdef enum:
    INTERVAL_MAX_US = 20000
    DEPTH_MAX = 200  # frames that are kept of a stack
    GRACE_INTERVALS = 4  # of sys.getswitchinterval(): so long the GIL may take

fork_guard_use(process_guard())
watchdog_init()
cdef uint64_t made_in = fork_guard_now()
cdef set running = set()  # the watches of loops that run
cdef bint registered = False
cdef long interval_us = 0  # after which a thread that waits for the GIL looks for it again


cdef int check_process() except -1:
    """Forgets what a fork has brought along."""
    global made_in, running
    if is_forked_child(made_in):
        made_in = fork_guard_now()
        running = set()
        watchdog_init()
    return 0


cdef int start() except -1:
    """Starts both threads, unless they run.  Raises OSError or RuntimeError if it cannot."""
    global registered, interval_us
    cdef int result
    cdef double interval
    if not registered:
        atexit.register(stop)
        registered = True
    if not FREE_THREADED:
        interval = sys.getswitchinterval()
        watchdog.grace_ns = <int64_t>(GRACE_INTERVALS * 1e9 * interval)
        interval_us = min(<long>(1.5e6 * interval), INTERVAL_MAX_US)
    start_reporter()
    result = watchdog_start()
    if result < 0:
        raise OSError(-result, f"pthread_create: {os.strerror(-result)}")
    return 0


cdef object current_task = asyncio.current_task
cdef object reporter = None
cdef uint64_t reports_in = 0  # fork_guard_now() of the process that has the reporter


cdef int start_reporter() except -1:
    global reporter, reports_in
    if reporter is None or is_forked_child(reports_in):
        thread = threading.Thread(target=report_all, name="aiopoll-stalls", daemon=True)
        thread.start()
        reporter, reports_in = thread, fork_guard_now()
    return 0


def stop():
    """The interpreter ends: no loop is watched any more."""
    check_process()
    watchdog_stop()


def report_all():
    """What the reporter does until the interpreter ends."""
    cdef Watch watch
    cdef bint goes_on = True
    while goes_on:
        with nogil:
            goes_on = watchdog_wait()
        for watch in list(running):
            try:
                watch.look()
            except BaseException:
                pass  # a handler's SystemExit, which was logged


cdef object sampled(Sample *sample):
    cdef const char *name = call_name_text(sample.call)
    call = None
    futex = None
    unknown = ""
    wchan = sample.wchan.decode("ascii", "replace")
    if name != NULL:
        call = name.decode("ascii")
    elif sample.call >= 0:
        call = f"system call {sample.call}"
    elif sample.call == CALL_NONE:
        call = wchan or "the kernel"
    elif sample.call == CALL_UNKNOWN:
        if wchan and sample.state != c"R":
            call = wchan
        else:
            unknown = f"/proc/self/task: {os.strerror(sample.error)}"
    if call_is_futex(sample.call):
        futex = (sample.args[0], sample.switches)
    return observation.Sample(
        call, sample.call == CALL_RUNNING or sample.call == CALL_UNKNOWN and sample.state == c"R",
        futex, sample.file.decode("utf-8", "surrogateescape"), unknown)


cdef list frames_of(object frame):
    """The code and the line of each frame, without a moment at which another thread could run."""
    cdef list frames = []
    cdef PyFrameObject *at = <PyFrameObject *><PyObject *>frame
    cdef PyFrameObject *back
    cdef PyCodeObject *code
    cdef int line
    while at != NULL and len(frames) < DEPTH_MAX:
        line = PyFrame_GetLineNumber(at)
        code = PyFrame_GetCode(at)
        frames.append((<object><PyObject *>code, line if line > 0 else None))
        Py_XDECREF(<PyObject *>code)
        back = PyFrame_GetBack(at)
        if <PyObject *>at != <PyObject *>frame:
            Py_XDECREF(<PyObject *>at)
        at = back
    if at != NULL and <PyObject *>at != <PyObject *>frame:
        Py_XDECREF(<PyObject *>at)
    return frames


@cython.final
cdef class Watch:
    """The watch over a loop while that runs.

    limit: seconds that a callback may take.
    report: called with the loop and an Observation, mostly by the reporter; never raises.
    """

    def __cinit__(self, *args, **options):
        self.loop = None

    def __init__(self, double limit, report):
        self.watch.limit_ns = <int64_t>(limit * 1e9)
        self.report = report

    cdef int enter(self, object loop, const uint64_t *callbacks, const int *in_callbacks,
                   const uint64_t *iterations, const int *sleeping) except -1:
        """This thread runs the loop from now on, whose words stay until leave()."""
        check_process()
        if self.loop is not None:
            return 0
        try:
            start()
        except (OSError, RuntimeError) as error:
            self.report(loop, error)
            return 0
        self.watch.callbacks = callbacks
        self.watch.in_callbacks = in_callbacks
        self.watch.iterations = iterations
        self.watch.sleeping = sleeping
        self.loop = loop
        running.add(self)
        watch_enter(&self.watch)
        return 0

    cdef int leave(self) except -1:
        """The loop has ended; a stall that lasted until now is reported."""
        check_process()
        if self not in running:
            self.loop = None
            return 0
        watch_leave(&self.watch)
        try:
            self.look()
        finally:
            running.discard(self)
            self.loop = None
        return 0

    def look(self):
        """Reports what there is to report."""
        cdef WatchState state
        loop = self.loop
        if loop is None:
            return
        state = watch_take(&self.watch)
        if state != WATCH_QUIET and state != WATCH_SEEN:
            self.report(loop, self.observe(state))

    cdef object observe(self, WatchState state):
        cdef Sample now
        cdef list frames = [], others = []
        cdef int64_t waited_ns
        seen = task = None
        if state != WATCH_ENDED:
            stacks = sys._current_frames()
            for ident, frame in stacks.items():
                if ident == self.loop._thread_id:
                    frames = frames_of(frame)
            task = current_task(self.loop)
            if FREE_THREADED:
                sample_thread(self.watch.tid, &now)
            else:
                sample_with_gil(self.watch.tid, &self.watch.sample, interval_us, &now)
            if call_is_futex(now.call) or call_is_futex(self.watch.sample.call):
                others = [(ident, frames_of(frame)) for ident, frame in stacks.items()
                          if ident != self.loop._thread_id and ident != threading.get_ident()]
            stacks = frame = None
            seen = sampled(&now)
            if not watch_is_same(&self.watch):  # the calls above may have let go of the GIL
                frames, task = [], None
        waited_ns = self.watch.took_ns + self.watch.since_ns - self.watch.asked_ns
        return observation.Observation(
            self.watch.took_ns * 1e-9, FREE_THREADED == 0 and waited_ns > watchdog.grace_ns, state == WATCH_ENDED,
            state == WATCH_ENDED and self.watch.before == WATCH_SEEN,
            (self.watch.before if state == WATCH_ENDED else state) in (WATCH_KEPT, WATCH_PRINTED),
            self.watch.in_poll, sampled(&self.watch.sample), seen, frames, task, others,
            self.watch.dump.decode("ascii", "replace"),
            self.watch.all_dumped.decode("ascii", "replace"), self.watch.dump_error)
