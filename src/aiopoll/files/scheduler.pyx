"""Moves the requests of files: to the loop's ring, to an own ring, or to threads.

Facts.  io_submit returns EAGAIN where no slot is free.  io_destroy waits for the requests in
flight, and discards their events.  An asyncio future is finished in its loop's thread only.

Rule.  routes.pyx decides the route of a request, and this module moves it there.  A future that is
cancelled is cancelled at once; a request that was not yet submitted is not carried out.  Requests
wait for one io_submit at the iteration's end, but never more of them than are in flight.  No more
than IN_FLIGHT_MAX are in flight; the rest wait here, in order.  A request that finds no slot waits
for one of ours; if none of ours is in flight, it goes to a thread.  A request that io_submit
refuses otherwise goes to a thread too, whose system call has the last word.  A request that may
wait for ever for another process, as a FIFO's opening does, is patient.  It gets a thread of its
own, so that ordinary files never wait for one.  A loop that closes waits for all requests.

Why.  A device that is idle while callbacks run loses a whole iteration; doubling the requests in
flight takes only a handful of calls.  Waiting for a slot costs nothing, and a slot of ours always
comes back; polls can hold theirs for ever.  The thread gives the errno that a plain program sees.

Cost.  A request that fails on the ring is tried twice.

Failure prevented.  All slots are held by polls of idle sockets.  A read that waited for a slot then
would wait until a client sends data.
"""

cimport cython
from libc.errno cimport EAGAIN
from libc.stdint cimport uint32_t

from aiopoll.aio cimport abi
from aiopoll.aio.buffers cimport BufferPool
from aiopoll.aio.clock cimport clock_ns
from aiopoll.aio.fork_guard cimport (
    fork_guard_now, fork_guard_use, is_forked_child, process_guard,
)
from aiopoll.aio.free_threading cimport flag_lower, flag_was_up
from aiopoll.aio.ring cimport request_id
from aiopoll.files.open_file cimport (
    AIO_READS, AIO_SYNCS, AIO_WRITES, BLOCKED, INLINE_READS, THREAD_CALLS, THREAD_READS,
    THREAD_SYNCS, THREAD_WRITES, UNORDERED,
)
from aiopoll.files.request cimport (
    DEFERRED, FILE_CALL, FILE_CLOSE, FILE_READ, FILE_SYNC, FREE, HELD, IN_FLIGHT, IN_THREAD, NEW,
    PERFORMED, POOLED, QUEUED, count, is_write,
)
from aiopoll.files.routes cimport (
    CACHED, OVER, TO_RING, WOULD_BLOCK, choose_route, note_refusal, perform, take_result,
)
from aiopoll.loop.core cimport LoopCore, future_for
from aiopoll.loop.monitor.tracer cimport Tracer
from aiopoll.reactor.request_source cimport SOURCE_TAG

import collections
import functools
import sys
import warnings

# What C keeps is there to the end of the interpreter; modules have been emptied by then.
cdef object warn = warnings.warn, is_finalizing = sys.is_finalizing, partial = functools.partial

fork_guard_use(process_guard())

cdef enum:
    IN_FLIGHT_MAX = 128  # a device's queue has 256 requests by default; io_submit waits beyond
    THREADS_MAX = 32
    PATIENT_THREADS_MAX = 1 << 20  # no limit but the system's: started when needed, and reused
    INLINE_BYTES_MAX = 128 << 10  # read from the page cache in one iteration
    INLINE_COST = 4096  # charged for a request besides its bytes

cdef enum Traced:  # how a request was carried out, in a trace
    TRACED_INLINE
    TRACED_RING
    TRACED_THREAD
    TRACED_CANCELLED

cdef tuple KINDS = ("read", "write", "sync", "call", "append", "close")  # in the order of Kind


@cython.final
cdef class ThreadPool:
    """Up to `size` threads, started when needed, whose names begin with `name`."""

    def __init__(self, int size, str name):
        self.size = size
        self.name = name

    cdef bint start(self, object function, FileRequest request) except -1:
        """Has a thread call `function`; returns False at interpreter exit, or if none can start.

        After False a living thread may still call it.
        """
        if is_finalizing():
            return False
        try:
            if self.executor is None:
                # At interpreter exit this raises RuntimeError too.
                from concurrent.futures import ThreadPoolExecutor
                self.executor = ThreadPoolExecutor(self.size, self.name)
            self.executor.submit(function, request, request.generation)
        except RuntimeError:
            return False
        return True

    cdef int end(self) except -1:
        """Waits for the calls in the threads, and ends the threads."""
        executor = self.executor
        self.executor = None
        try:
            # When the interpreter ends, concurrent.futures has waited for its threads before.
            if executor is not None and not is_finalizing():
                executor.shutdown(True)
        except RuntimeError:
            pass  # called in one of them, which cannot join itself: no call is left
        return 0


@cython.final
cdef class FileQueue(RequestSource):
    """The requests of all files of one event loop."""

    def __init__(self, loop):
        self.loop = loop
        self.requests = []
        self.free = []
        self.queue = ReadyQueue()
        self.done = collections.deque()
        self.threads = ThreadPool(THREADS_MAX, "aiopoll-files")
        self.patient_threads = ThreadPool(PATIENT_THREADS_MAX, "aiopoll-patient")
        self.pool = BufferPool()
        self.counters = Counters()
        self.limit = IN_FLIGHT_MAX
        self.budget = INLINE_BYTES_MAX
        self.made_in = fork_guard_now()
        if isinstance(loop, LoopCore):
            self.loop_reactor = (<LoopCore>loop).reactor
            if isinstance(self.loop_reactor, AioReactor):
                self.reactor = self.loop_reactor
                self.reactor.source = self
                # The other half is for sockets.
                self.limit = max(1, min(self.limit, self.reactor.ring.nr_events // 2))
            (<LoopCore>loop)._aiopoll_files = self

    cdef bint is_forked_child(self) noexcept:
        """Whether this is the child of a fork."""
        return is_forked_child(self.made_in)

    cdef FileRequest take(self, Kind kind, OpenFile file, object owner):
        """Returns a new request; file and owner are None where it belongs to no file."""
        cdef FileRequest request
        if self.is_forked_child():
            raise RuntimeError("this file belongs to the parent process: after fork() open it anew"
                               " on a new event loop")
        if (<LoopCore>self.loop)._closed if self.loop_reactor is not None else (
                self.loop.is_closed()):
            raise RuntimeError("Event loop is closed")
        if self.free:
            request = self.free.pop()
        else:
            request = FileRequest.__new__(FileRequest)
            request.index = len(self.requests)
            self.requests.append(request)
        request.enter(NEW)
        request.file = file
        request.owner = owner
        request.counters = self.counters if file is None else file.counters
        request.kind = kind
        request.access = UNORDERED
        request.unaligned = request.patient = False
        request.offset = request.length = request.skip = request.done = request.code = 0
        request.rw_flags = 0
        request.begun_at_ns = clock_ns() if self.notes_times or (
            self.loop_reactor is not None and self.loop_reactor.trace != NULL) else 0
        return request

    cdef int release(self, FileRequest request) except -1:
        """Makes the record available for another request."""
        with cython.critical_section(request):
            request.enter(FREE)
            request.generation += 1
        if request.bounce is not None:
            self.pool.give_buffer(request.bounce)
        request.drop()
        self.free.append(request)
        return 0

    # From state to state

    cdef object start(self, FileRequest request):
        """Starts a request of a file; returns its future."""
        cdef OpenFile file = request.file
        future = request.future = future_for(self.loop)
        file.pending += 1
        if request.access != UNORDERED and (file.held or not file.acquire(request.access)):
            request.enter(HELD)
            file.held.append(request)
            return future
        self.route(request)
        self.submit_if_underfilled()
        return future

    cdef int route(self, FileRequest request) except -1:
        cdef int route
        try:
            route = choose_route(request)
        except BaseException as error:
            request.error = error
            route = OVER
        return self.follow(request, route)

    cdef int follow(self, FileRequest request, int route) except -1:
        """Moves a request along its Route."""
        if route == CACHED:
            count(request, INLINE_READS)
            if not self.charge_inline_budget(request.length):
                request.enter(DEFERRED)
                self.loop.call_soon(self._resolve_deferred, request)
                return 0
            route = take_result(request, request.code)
        if route == OVER:
            return self.resolve(request)
        if route == TO_RING and self.has_ring():
            return self.submit(request)
        if route == WOULD_BLOCK:
            count(request, BLOCKED)
        return self.to_thread(request)

    def _resolve_deferred(self, FileRequest request):
        self.follow(request, take_result(request, request.code))

    cdef int run_held(self, OpenFile file) except -1:
        """Starts the requests that have waited for their access."""
        cdef FileRequest request
        if file.running_held:
            return 0
        file.running_held = True
        try:
            while file.held:
                request = file.held[0]
                if not file.acquire(request.access):
                    break
                file.held.popleft()
                self.route(request)
        finally:
            file.running_held = False
        return 0

    cdef int resolve(self, FileRequest request) except -1:
        """Finishes the future, unless it was cancelled, and frees the request."""
        cdef OpenFile file = request.file
        owner = request.owner  # kept until the request is free
        future = request.future
        error = request.error
        if request.begun_at_ns:
            trace_request((<LoopCore>self.loop)._tracer, request)
        try:
            if not future.done():
                if error is None:
                    future.set_result(request.result)
                else:
                    if isinstance(error, StopIteration):
                        error = RuntimeError(f"{error!r} was raised in a thread")
                    future.set_exception(error)
        except RuntimeError:
            pass  # the loop is closed: no callback can run any more
        if file is not None:
            file.pending -= 1
            if file.o_append and is_write(request):
                file.append_at -= request.length - request.done  # the kernel leaves no gaps
            if request.access != UNORDERED:
                file.end_access(request.access)
            if file.held:
                self.run_held(file)
            if file.pending == 0 and file.closing is not None and file.fd >= 0:
                self.close_now(file)
        return self.release(request)

    cdef bint charge_inline_budget(self, int64_t size) except -1:
        """Charges `size` bytes to the inline budget of this iteration; False if that is spent.

        A coroutine that only finds cached data would otherwise keep all others waiting.
        """
        if self.loop_reactor is not None:
            if self.loop_reactor.iterations != self.budget_iteration:
                self.budget_iteration = self.loop_reactor.iterations
                self.budget = INLINE_BYTES_MAX
        elif not self.refill_scheduled:
            self.refill_scheduled = True
            self.loop.call_soon(self.refill)
        self.budget -= size + INLINE_COST
        return self.budget >= 0

    def refill(self):
        """Restores the budget: a new iteration has begun."""
        self.refill_scheduled = False
        self.budget = INLINE_BYTES_MAX

    # The ring

    cdef bint has_ring(self) except -1:
        """Whether there is a ring; makes one at the first need for a loop that has none."""
        if self.reactor is not None or self.ring is not None:
            return True
        if self.no_ring is not None:
            return False
        try:
            self.ring = FileRing(self.loop, self, self.limit)
        except (OSError, NotImplementedError) as error:
            self.no_ring = str(error) or type(error).__name__
            return False
        return True

    cdef int submit(self, FileRequest request) except -1:
        """Queues a request for the io_submit at this iteration's end; has_ring() is true."""
        count(request, AIO_READS if request.kind == FILE_READ
              else AIO_SYNCS if request.kind == FILE_SYNC else AIO_WRITES)
        request.enter(QUEUED)
        request.iocb.aio_data = request_id(SOURCE_TAG | request.index, request.generation)
        request.iocb.aio_reserved2 = request.iocb.aio_key = 0
        request.iocb.aio_flags = request.iocb.aio_reqprio = 0
        self.queue.push(request)
        self.waiting += 1
        if self.ring is not None:
            self.ring.submit_later()
        return 0

    cdef int submit_if_underfilled(self) except -1:
        """Submits now, if more requests wait for the iteration's end than are in flight."""
        if self.in_flight < self.waiting and self.in_flight < self.limit:
            if self.reactor is not None:
                self.reactor.submit_source()
            elif self.ring is not None:
                self.ring.submit_waiting()
        return 0

    cdef Py_ssize_t fill_batch(self, abi.iocb **batch, Py_ssize_t room) except -1:
        cdef Py_ssize_t count = 0
        cdef FileRequest request
        room = min(room, self.limit - self.in_flight)
        while count < room and self.waiting > 0:
            self.waiting -= 1
            request = self.queue.pop()
            if request.future.done():
                self.resolve(request)
                continue
            request.enter(IN_FLIGHT)
            batch[count] = &request.iocb
            count += 1
        self.in_flight += count
        return count

    cdef int on_submit_error(self, abi.iocb **batch, Py_ssize_t nr, long error) except -1:
        cdef FileRequest request
        cdef Py_ssize_t i
        self.in_flight -= nr
        for i in range(nr):
            request = self.requests[<Py_ssize_t>(batch[i].aio_data & (SOURCE_TAG - 1))]
            if error == EAGAIN and self.in_flight > 0:
                request.enter(QUEUED)
                self.queue.push(request)
                self.waiting += 1
            else:
                note_refusal(request, error)
                self.to_thread(request)
        return 0

    cdef int complete(self, abi.io_event *event) except -1:
        cdef uint64_t index = event.data & (SOURCE_TAG - 1)
        cdef FileRequest request
        if index >= <uint64_t>len(self.requests):
            return 0
        request = self.requests[<Py_ssize_t>index]
        if request.generation != event.data >> 32 or request.state != IN_FLIGHT:
            return 0
        self.in_flight -= 1
        return self.follow(request, take_result(request, event.res))

    # Threads

    cdef int to_thread(self, FileRequest request) except -1:
        count(request, THREAD_READS if request.kind == FILE_READ
              else THREAD_WRITES if is_write(request)
              else THREAD_SYNCS if request.kind == FILE_SYNC else THREAD_CALLS)
        self.in_threads += 1
        request.enter(POOLED)
        try:
            if not (request.patient and self.patient_threads.start(self._run, request)):
                if not self.threads.start(self._run, request):
                    self._run(request, request.generation)
        except BaseException as error:
            self.in_threads -= 1
            request.error = error
            self.resolve(request)
        return 0

    def _run(self, FileRequest request, uint32_t generation):
        """In a thread: carries out the request, unless another has, and schedules collect()."""
        cdef bint is_ours
        with cython.critical_section(request):  # which the loop's thread may carry out itself
            is_ours = request.state == POOLED and request.generation == generation
            if is_ours:
                request.enter(IN_THREAD)
        if not is_ours:
            return
        try:
            if request.future.cancelled() and request.kind != FILE_CLOSE:
                pass
            elif request.call is not None:
                request.result = request.call()
            else:
                perform(request)
        except BaseException as error:
            request.error = error
        request.enter(PERFORMED)
        self.done.append(request)
        # collect() clears the flag before it looks: one of the two sees the other's store.
        if not is_finalizing() and not flag_was_up(&self.collecting):
            try:
                self.loop.call_soon_threadsafe(self.collect)
            except RuntimeError:
                pass  # the loop is closed; shutdown() collects

    def collect(self):
        """Takes the results of the requests that threads have carried out."""
        cdef FileRequest request
        flag_lower(&self.collecting)
        while self.done:
            request = self.done.popleft()
            self.in_threads -= 1
            if request.error is None and request.call is None:
                self.follow(request, take_result(request, request.code))
            else:
                self.resolve(request)

    def call(self, function, *, bint patient=False):
        """Calls `function` in a thread; returns a future of its result.

        patient: the call may wait for ever.
        """
        cdef FileRequest request = self.take(FILE_CALL, None, None)
        future = request.future = future_for(self.loop)
        request.call = function
        request.patient = patient
        self.to_thread(request)
        return future

    # The end

    cdef object close(self, OpenFile file):
        """Closes a file when its requests are over; returns a future that all callers share."""
        if file.closing is None:
            file.closing = future_for(self.loop)
            if file.pending == 0:
                self.close_now(file)
        return file.closing

    cdef int close_now(self, OpenFile file) except -1:
        cdef FileRequest request
        close_descriptor = file.take_descriptor()
        if close_descriptor is None:
            if not file.closing.done():
                file.closing.set_result(None)
            return 0
        try:
            request = self.take(FILE_CLOSE, None, None)
        except RuntimeError:
            close_descriptor()  # the loop is closed, or belongs to the parent process
            return 0
        request.future = file.closing
        request.call = close_descriptor
        return self.to_thread(request)

    def shutdown(self):
        """Waits for all requests, and frees ring and threads; returns how many were pending.

        Later requests get new threads, and no ring but the loop's.
        """
        if self.is_forked_child():
            return 0
        pending = self.in_flight + self.waiting + self.in_threads
        # Work in a thread holds the queue: if the last reference was there, all work is done.
        self.collect()
        while self.in_flight + self.waiting + self.in_threads > 0:
            if self.waiting + self.in_flight > 0:
                if self.reactor is not None:
                    self.reactor.drain()
                elif self.ring is not None:
                    self.ring.drain()
            if self.in_threads > 0:
                self.threads.end()
                self.patient_threads.end()
            self.collect()
        if self.ring is not None:
            self.ring.close()
            self.ring = None
            self.no_ring = "the event loop is about to close"
        self.threads.end()
        self.patient_threads.end()
        return pending

    def __del__(self):
        if self.loop is not None:
            self.end_dropped()

    cdef int end_dropped(self) except -1:
        """Waits for the requests of a loop that was not closed; warns if there are any."""
        if self.shutdown():
            warn(f"{self.loop!r} was dropped with I/O of files in flight",
                 ResourceWarning, stacklevel=2, source=self)
        return 0

    def statistics(self):
        """Returns the counters, as a FileStatistics."""
        return self.counters.statistics(self.in_flight, self.waiting, self.in_threads)

    def requests_now(self):
        """The requests that are not over, for a dump; begins to note when later ones begin.

        (future, kind, state, file's name or None, fd, offset, size, seconds or None) of each.
        """
        cdef FileRequest request
        cdef list found = []
        cdef int64_t now_ns = clock_ns()
        self.notes_times = True
        for request in self.requests:
            if request.state != FREE:
                found.append((
                    request.future, KINDS[request.kind], request.state_name(),
                    None if request.file is None else request.file.name,
                    -1 if request.file is None else request.file.fd,
                    request.offset, request.length,
                    (now_ns - request.begun_at_ns) / 1e9 if request.begun_at_ns else None))
        return found

    def executors(self):
        """(name, threads at most, executor or None) of the pools, for a dump."""
        return [(self.threads.name, self.threads.size, self.threads.executor),
                (self.patient_threads.name, self.patient_threads.size,
                 self.patient_threads.executor)]


cdef int trace_request(Tracer tracer, FileRequest request) except -1:
    """Records a request that is over, by the route of its last state."""
    cdef int route = (TRACED_RING if request.state == IN_FLIGHT
                      else TRACED_THREAD if request.state == PERFORMED
                      else TRACED_CANCELLED if request.state == HELD or request.state == QUEUED
                      else TRACED_INLINE)
    if tracer is None:
        return 0
    if request.file is None:
        call = request.call
        while isinstance(call, partial):
            call = call.func
        name = getattr(call, "__qualname__", "")
    else:
        name = request.file.name
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    tracer.file_request(str(name), -1 if request.file is None else request.file.fd,
                        request.begun_at_ns, request.offset, request.length,
                        route << 4 | request.kind)
    return 0


def queue_of(loop):
    """Returns the FileQueue of a loop; the first call makes it."""
    queue = getattr(loop, "_aiopoll_files", None)
    if queue is None:
        queue = FileQueue(loop)
        loop._aiopoll_files = queue
    return queue
