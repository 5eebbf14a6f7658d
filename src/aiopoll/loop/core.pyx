"""The compiled half of the event loop: callbacks and iterations.

Facts.  asyncio.BaseEventLoop keeps its state in attributes (_ready, _debug, _stopping, …) that
its own methods, CPython's tests and debuggers read and write.  What a class before it in the
method resolution order defines as a data descriptor takes the place of such an attribute.

Rule.  LoopCore stands before asyncio's class and overrides what runs for every callback:
call_soon, the timers (loop_timers.pyx), the iteration.  The attributes that asyncio names keep
their names and meaning, `_ready` with a queue, `_transports` with a table and `_scheduled` with a
view of our own that have the methods of asyncio's.

Why.  All that is cold stays asyncio's own and right on every Python version.

Cost.  asyncio's run_forever calls the first iteration, in Python.  `_scheduled` can only be read.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject_Call
from libc.math cimport ceil
from libc.stdint cimport int64_t

from aiopoll.aio.free_threading cimport FREE_THREADED
from aiopoll.loop.handle_queue cimport HandleQueue
from aiopoll.loop.handles cimport (
    format_handle, gc_track, is_cancelled, new_handle, run_handle, set_gc_tracking,
)
from aiopoll.loop.loop_timers cimport LoopTimers, timer_heap_is_sparse
from aiopoll.loop.monitor.meter cimport Meter
from aiopoll.loop.monitor.watchdog cimport Watch
from aiopoll.loop.monitor.tracer cimport Tracer
from aiopoll.loop.transports.table cimport TransportTable
from aiopoll.reactor.epoll_reactor cimport EpollReactor
from aiopoll.reactor.mixed_reactor cimport MixedReactor
from aiopoll.reactor.reactor cimport Reactor
from aiopoll.reactor.ready_queue cimport nr_waiting
from aiopoll.reactor.runnable cimport Runnable
from aiopoll.reactor.trace_buffer cimport (
    TRACE_ITERATION, TRACE_TIMER, trace_note, trace_record,
)

import asyncio
import sys

from aiopoll.loop.timer_view import TimerView
from aiopoll.loop.wakeup import claim_wakeup, release_wakeup_pipe
from asyncio.log import logger

cdef object Future = asyncio.Future
cdef object Task = asyncio.Task
cdef object BaseEventLoop = asyncio.BaseEventLoop
cdef object create_task_of_asyncio = BaseEventLoop.create_task

# Python 3.14: cancel() from another thread waits for a callback that runs.
cdef bint THREADSAFE_HANDLES = hasattr(asyncio.events, "_ThreadSafeHandle")

cdef enum:
    SLEEP_MAX = 24 * 3600  # seconds: what asyncio allows, far from any overflow
    HIDE_MIN = 64  # contexts that wait, from which on it is worth hiding them from the collector


@cython.no_gc_clear  # as TimerOwner
cdef class LoopCore(LoopTimers):
    """The base class that EventLoop puts before asyncio's own."""

    def __cinit__(self, *args, **options):
        self.held = []
        self._gather_writes = True
        self.ready = HandleQueue()
        self.transports = TransportTable()
        self.makes_futures = type(self).create_future is not LoopCore.create_future
        self.future_options = {"loop": self}  # made once, not for each
        self.task_options = self.future_options

    @property
    def _ready(self):
        return self.ready

    @_ready.setter
    def _ready(self, queue):
        self.ready = self.reactor.ready = HandleQueue(queue)
        self.ready.measure(self.meter is not None)
        self.reactor.report = self._report_unwatched

    @property
    def _transports(self):
        return self.transports

    @_transports.setter
    def _transports(self, transports):
        for fd, transport in transports.items():
            self.transports[fd] = transport

    @property
    def _scheduled(self):
        # Code that runs the iterations in the loop's place would run them twice.
        return TimerView(self) if type(self)._run_once is LoopCore._run_once else []

    @_scheduled.setter
    def _scheduled(self, timers):
        if timers:
            raise AttributeError("_scheduled can only be read: timers are added by call_at()")

    def _report_unwatched(self, fd, error):
        self.schedule(self.call_exception_handler, ({
            "message": f"cannot poll fd {fd}: no AIO slot or epoll watch available; retrying",
            "exception": error}, ), None)

    def _open_reactor(self, backend, nr_events, user_ring, busy_poll_ns, wait):
        """Makes the reactor, before asyncio's constructor runs.  Raises what MixedReactor raises."""
        if backend == "epoll":
            self.reactor = EpollReactor(self.ready)
        else:
            wait = wait if backend == "auto" else "ring"
            self.reactor = MixedReactor(self.ready, nr_events, user_ring, busy_poll_ns, wait)

    def _close_reactor(self):
        if self.reactor is not None:
            self.reactor.close()
            self.reactor.report = None  # a closed loop goes without a collection
        self.future_options = self.task_options = None

    @property
    def backend(self):
        """The kernel interface that the loop waits on: "aio" or "epoll"."""
        return self.reactor.backend

    def statistics(self):
        """The counters, as a ReactorStatistics; RuntimeError once the loop is closed."""
        self.check_open()
        return self.reactor.statistics()._replace(
            iterations=self.iterations, more_sends=self.more_sends, pushes=self.pushes)

    def start_metrics(self):
        """Measures callbacks, polls and sleeps from now on, for metrics(); again does nothing.

        RuntimeError once the loop is closed.
        """
        self.check_open()
        if self.meter is None:
            self.ready.measure(True)
            self.meter = Meter()

    def stop_metrics(self):
        """Measures no longer; what was measured is dropped.  Again does nothing."""
        if self.meter is not None:
            self.meter = None
            self.ready.measure(False)
            self.ready.now_ns = 0
            self.reactor.sleep_time.on = False
            self.reactor.sleep_time.woken_at_ns = 0

    def _measured(self):
        """What Meter.read() returns; None while nothing is measured."""
        return None if self.meter is None else self.meter.read()

    def _counted(self):
        """Returns counters: callbacks, tasks, connections, bytes received and sent."""
        return (self.callbacks, self.tasks_created, self.transports.added, self.bytes_received,
                self.bytes_sent)

    def _use_tracer(self, Tracer tracer):
        """Records into a tracer from now on; None ends that."""
        self.reactor.set_trace(None if tracer is None else tracer.buffer)
        self._tracer = tracer

    def events_pending(self):
        """Whether files are ready that this iteration does not know of yet.

        A look at memory, no system call: a callback that takes long can ask it often, and yield
        only when something waits.  Always False on the epoll backend, and where the ring cannot
        be read (`statistics().user_ring`).
        """
        return self.reactor.pending()

    def run_forever(self):
        """Runs until stop() is called."""
        cdef bint forever = self.forever
        # Python 3.13.0 checks too late: a wrong call then ends the run of another thread.
        self._check_closed()
        self._check_running()
        cdef bint running = self._thread_id is not None
        hooks = sys.get_asyncgen_hooks()
        # No context manager: an interrupt that drops it half entered is lost in its end.
        claimed = claim_wakeup(self._csock)
        if self.meter is not None:
            self.meter.begin_run()
        if self._trace is not None:
            self._trace.begin_run(self)
        self.forever = True
        try:
            if self.stall_watch is not None:
                self.enter_watch()
            super(LoopCore, self).run_forever()
        finally:
            self.forever = forever
            if self._tracer is not None:
                self._tracer.running = running
            if not running:
                self.end_run(hooks)
                if self.stall_watch is not None:
                    self.stall_watch.leave()
            if claimed and not self._signal_handlers:
                release_wakeup_pipe(self._csock)
            for handle in self.ready:
                gc_track(handle)
            for handle in self.timer_handles:
                gc_track(handle)

    cdef int end_run(self, object hooks) except -1:
        """Does of asyncio's clean-up what an interrupt has kept from being done.

        From 3.13.1 on it sets up outside of its `try`, and the clean-up is in Python, where a
        Ctrl-C may come between any two calls: the loop would be running for ever.  Here none comes.
        """
        if self._thread_id is not None or asyncio._get_running_loop() is self:
            self._stopping = False
            self._thread_id = None
            asyncio._set_running_loop(None)
        if self._coroutine_origin_tracking_enabled:
            sys.set_coroutine_origin_tracking_depth(self._coroutine_origin_tracking_saved_depth)
            self._coroutine_origin_tracking_enabled = False
        if sys.get_asyncgen_hooks() != hooks:
            sys.set_asyncgen_hooks(*hooks)
        return 0

    cdef int enter_watch(self) except -1:
        return self.stall_watch.enter(self, &self.callbacks, &self.in_callbacks,
                                      &self.reactor.iterations, &self.reactor.wakeup.sleeping)

    def _watch_by(self, Watch watch, places):
        """Has a watch look at the loop, and notes where its tasks are made; None for neither."""
        if self.stall_watch is not None:
            self.stall_watch.leave()
        self.stall_watch = watch
        self._task_places = places
        self.task_options = self.future_options if places is None else None
        if watch is not None and self.forever:
            self.enter_watch()

    def get_debug(self):
        """Whether the loop is in debug mode."""
        return self._debug

    def is_closed(self):
        """Whether the loop was closed."""
        return self._closed

    def create_future(self):
        """A Future of this loop."""
        if self.future_options is None:
            return Future(loop=self)
        return PyObject_Call(Future, (), self.future_options)

    cdef object new_future(self):
        """create_future() without a call through Python."""
        if self.makes_futures or self.future_options is None:
            return self.create_future()
        return PyObject_Call(Future, (), self.future_options)

    def create_task(self, coro, *, name=None, context=None, **options):
        """A Task of this loop, or what its task factory makes, that runs the coroutine."""
        if (self.task_options is None or self._task_factory is not None or self._debug or options
                or asyncio.tasks.Task is not Task
                or BaseEventLoop.create_task is not create_task_of_asyncio):
            self.tasks_created += 1
            task = BaseEventLoop.create_task(self, coro, name=name, context=context, **options)
            if self._task_places is not None:
                self._task_places.note(task)
            return task
        self.check_open()
        self.tasks_created += 1
        if name is None and context is None:
            return PyObject_Call(Task, (coro, ), self.task_options)
        return Task(coro, loop=self, name=name, context=context)

    # Callbacks

    cdef object schedule(self, object callback, tuple args, object context):
        cdef bint debug = self._debug
        handle = (asyncio.Handle(callback, args, self, context) if debug
                  else new_handle(callback, args, self, context))
        self.ready.push(handle)
        if not FREE_THREADED and not debug:  # without a GIL another thread must not read `count`
            set_gc_tracking(handle, self.forever, context is None and self.ready.count >= HIDE_MIN)
        return handle

    def _call_soon(self, callback, args, context):
        return self.schedule(callback, args, context)

    def call_soon(self, callback, *args, context=None):
        """Calls `callback` with `args` in the next iteration; returns its Handle."""
        self.check_open()
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_soon")
        return self.schedule(callback, args, context)

    def call_soon_threadsafe(self, callback, *args, context=None):
        """call_soon for other threads: wakes the loop if it sleeps."""
        self.check_open()
        if THREADSAFE_HANDLES:
            return super(LoopCore, self).call_soon_threadsafe(callback, *args, context=context)
        if self._debug:
            self._check_callback(callback, "call_soon_threadsafe")
        handle = self.schedule(callback, args, context)
        self.reactor.wake()
        return handle

    def _write_to_self(self):
        if self.reactor is not None:
            self.reactor.wake()

    # The iteration

    cdef int64_t sleep_time(self) except? -2:
        """Nanoseconds to wait for files; -1 for as long as it takes."""
        cdef double delay
        if self._stopping or nr_waiting(self.ready):
            return 0
        if not self.timers.count:
            return -1
        delay = self.timers.timers[0].when - <double>self.time()
        if not delay > 0:
            return 0
        return <int64_t>ceil(min(delay, <double>SLEEP_MAX) * 1e9)

    def _run_once(self):
        """One iteration; where run_forever() calls it, all of them until stop() is called.

        Callbacks that are added meanwhile run in the next iteration, so that none can keep the
        files and the timers waiting.
        """
        self.run_iteration()
        if self.forever and not self.in_callbacks:
            while not self._stopping:
                PyErr_CheckSignals()
                self.run_iteration()

    cdef int run_iteration(self) except -1:
        """Submits polls, waits, and runs the callbacks that became ready."""
        self.iterations += 1
        if self._tracer is not None:
            self.collect_traced(-1)
        else:
            self.collect(-1)
        self.in_callbacks += 1
        try:
            self.run_ready()
        finally:
            self.in_callbacks -= 1
            if self.held:
                self.push_held()
        return 0

    cdef int collect(self, int64_t timeout_ns) except -1:
        """Submits polls, waits, and puts the callbacks that became ready into the queue.

        timeout_ns: how long to wait at most; negative for as long as it takes.
        """
        cdef Meter meter = self.meter
        cdef double end
        cdef int64_t sleep_ns
        if meter is not None:
            meter.begin_poll(self.reactor)
        if self.timers_cancelled:
            self.drop_cancelled()
        if nr_waiting(self.ready) or self._stopping:
            if not self.reactor.idle():
                self.reactor.poll(0)
        else:
            # The flag goes up before the queue is looked at, see Reactor.wake.
            self.reactor.before_sleep()
            sleep_ns = self.sleep_time()
            if 0 <= timeout_ns and (sleep_ns < 0 or timeout_ns < sleep_ns):
                sleep_ns = timeout_ns
            self.reactor.poll(sleep_ns)
        if self.timers.count:
            end = <double>self.time() + self._clock_resolution
            while self.timers.count and self.timers.timers[0].when < end:
                if meter is not None:
                    self.ready.now_ns = meter.due_at_ns(end - self.timers.timers[0].when)
                if self.reactor.trace != NULL:
                    trace_note(self.reactor.trace, TRACE_TIMER, 0, <int64_t>(1e9 * (
                        end - self._clock_resolution - self.timers.timers[0].when)), 0)
                self.ready.push(self.pop_timer())
        if timer_heap_is_sparse(&self.timers):
            self.fit_timers()
        nr_waiting(self.ready)  # takes what other threads have posted meanwhile
        if meter is not None:
            meter.end_poll(self.reactor)
        return 0

    cdef int collect_traced(self, int64_t timeout_ns) except -1:
        """collect(), as a slice of the trace if there is one."""
        cdef Tracer tracer = self._tracer
        cdef trace_record record
        if tracer is None:
            return self.collect(timeout_ns)
        tracer.begin(&record, TRACE_ITERATION, None)
        try:
            self.collect(timeout_ns)
        finally:
            record.value = self.ready.count
            tracer.end(&record, None)
        return 0

    def _select(self, timeout):
        """Waits up to `timeout` seconds, as an iteration does, for code that runs the queue itself.

        What the kernel holds back is pushed: the callback that it waits for may not end before.
        """
        self.check_open()
        if self.running is not None:
            self.running.yield_to_loop()
        if self.held:
            self.push_held()
        self.collect_traced(-1 if timeout is None else <int64_t>ceil(
            min(max(<double>timeout, 0.0), <double>SLEEP_MAX) * 1e9))

    cdef int run_ready(self) except -1:
        """Runs what is in the queue now."""
        cdef Meter meter = self.meter  # one that a callback starts measures the next iteration
        cdef int64_t begun_ns = 0, since_ns = 0
        cdef bint running = False
        cdef Py_ssize_t i
        try:
            for i in range(self.ready.count):
                if not self.ready.count:
                    break  # a callback has emptied the queue
                handle = self.ready.pop()
                self.callbacks += 1
                if meter is not None:
                    begun_ns = meter.now_ns
                    since_ns = self.ready.since_ns
                    running = True
                if self._debug or self._tracer is not None:
                    self.run_observed(handle)
                else:
                    run_handle(handle)
                if PyList_GET_SIZE(self.held):
                    self.push_held()
                if meter is not None:
                    running = False
                    meter.end_callback(begun_ns - since_ns)
        finally:
            if running:  # SystemExit, for one
                meter.end_callback(begun_ns - since_ns)
        return 0

    cdef int push_held(self) except -1:
        """Has the kernel send what it holds back since MSG_MORE."""
        cdef list held = self.held
        cdef Runnable stream
        self.held = []
        for stream in held:
            stream.push()
        return 0

    cdef int run_observed(self, object handle) except -1:
        """Runs a callback in debug mode, or while it is traced."""
        cdef Tracer tracer = self._tracer
        cdef trace_record record
        cdef bytes text = None
        record.kind = 0  # of none
        try:
            if tracer is not None:
                text = tracer.begin_callback(handle, &record)
            if not self._debug:
                run_handle(handle)
            else:
                gc_track(handle)
                if not is_cancelled(handle):
                    self.run_debug(handle)
        finally:
            if tracer is not None:
                tracer.end(&record, text)
        return 0

    cdef int run_debug(self, object handle) except -1:
        cdef double start, took
        try:
            self._current_handle = handle
            start = self.time()
            handle._run()
            took = <double>self.time() - start
            if took >= self.slow_callback_duration:
                logger.warning("Executing %s took %.3f seconds", format_handle(handle), took)
        finally:
            self._current_handle = None
        return 0


cdef object future_for(object loop):
    """A future of any loop."""
    return (<LoopCore>loop).new_future() if isinstance(loop, LoopCore) else loop.create_future()
