"""Requests of files: on the loop's ring, on a ring of their own, or in threads.

Facts.  A read, write or fsync that io_submit has taken cannot be cancelled (io_cancel: EINVAL),
and the kernel uses its memory until the event.  io_submit answers EAGAIN where no slot is free.
io_destroy waits for what is in flight, and throws the events away.  An asyncio future is
finished in its loop's thread only.

Rule.  A FileRequest holds buffers, file and future until its event or its thread's end, whatever
happens to the future: one that is cancelled is cancelled at once, and what was not submitted yet
is not done.  Requests are held back for one io_submit at the turn's end, but never more of them
than are in flight.  No more than IN_FLIGHT_MAX are in flight; the rest wait here, in order.  What
finds no slot waits for one of ours to come back, and where none of ours is under way, goes to a
thread.  Whatever io_submit refuses otherwise goes to a thread too, whose system call has the last
word.  What may wait for ever for another process, as a FIFO's opening does, is patient: it gets a
thread of its own, so that ordinary files never wait for one.  A loop that closes waits for all of it.

Why.  A device that has nothing to do while callbacks run is the loss of a whole turn; doubling
makes that a handful of calls.  Waiting for a slot costs nothing, and a slot of ours always comes
back; polls can hold theirs for ever.  The thread gives the errno that a plain program would see.

Cost.  A request that fails on the ring is tried twice.
"""

cimport cython
from cpython.buffer cimport PyBUF_CONTIG, PyBUF_CONTIG_RO, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EAGAIN

from aiopoll.aio.fork_guard cimport (
    fork_guard_now, fork_guard_use, is_forked_child, process_guard,
)
from aiopoll.aio.ring cimport request_id
from aiopoll.loop.core cimport LoopCore, future_for
from aiopoll.reactor.request_source cimport SOURCE_TAG

import collections
import os
import warnings

from aiopoll.files.statistics import FileStatistics

fork_guard_use(process_guard())

cdef enum:
    IN_FLIGHT_MAX = 128  # a device's queue has 256 requests by default; io_submit waits beyond
    THREADS_MAX = 32
    PATIENT_THREADS_MAX = 1 << 20  # no limit but the system's: made when needed, and used again
    INLINE_BYTES_MAX = 128 << 10  # answered from memory in one turn, before others get theirs
    INLINE_COST = 4096  # what a request counts for besides its bytes


@cython.final
@cython.no_gc_clear
cdef class FileRequest:
    """One request of a file, with all that the kernel or a thread uses until it is done."""

    def __cinit__(self):
        self.vector = self.vector_memory = NULL
        self.views = NULL

    cdef int hold(self, object buffer, bint writable) except -1:
        """Takes a buffer as the memory of the request."""
        PyObject_GetBuffer(buffer, &self.single_view, PyBUF_CONTIG if writable else PyBUF_CONTIG_RO)
        self.views = &self.single_view
        self.nr_views = 1
        self.single.iov_base = self.single_view.buf
        self.single.iov_len = self.single_view.len
        self.vector = &self.single
        self.nr_vector = 1
        self.length = self.single_view.len
        return 0

    cdef int hold_vector(self, object buffers, bint writable) except -1:
        """Takes several buffers, one after the other."""
        cdef tuple parts = tuple(buffers)
        cdef Py_ssize_t nr = len(parts), i
        cdef int flags = PyBUF_CONTIG if writable else PyBUF_CONTIG_RO
        if nr == 1:
            return self.hold(parts[0], writable)
        self.vector_memory = <iovec *>PyMem_Malloc((nr + 1) * sizeof(iovec))
        if self.vector_memory == NULL:
            raise MemoryError
        self.views = <Py_buffer *>PyMem_Malloc((nr + 1) * sizeof(Py_buffer))
        if self.views == NULL:
            raise MemoryError
        self.length = 0
        for i in range(nr):
            PyObject_GetBuffer(parts[i], &self.views[i], flags)
            self.nr_views += 1
            self.vector_memory[i].iov_base = self.views[i].buf
            self.vector_memory[i].iov_len = self.views[i].len
            self.length += self.views[i].len
        self.vector = self.vector_memory
        self.nr_vector = nr
        return 0

    cdef int read_into_bytes(self, int64_t size) except -1:
        """Makes the bytes object that is the answer, and reads into it."""
        self.answer = PyBytes_FromStringAndSize(NULL, size)
        self.single.iov_base = PyBytes_AS_STRING(self.answer)
        self.single.iov_len = size
        self.vector = &self.single
        self.nr_vector = 1
        self.length = size
        return 0

    cdef int use_bounce(self, BufferPool pool, int64_t span, uint32_t alignment) except -1:
        self.bounce = pool.take_buffer(span, alignment)
        return 0

    cdef void drop(self) noexcept:
        """Lets go of memory, file and future."""
        while self.nr_views > 0:
            self.nr_views -= 1
            PyBuffer_Release(&self.views[self.nr_views])
        if self.views != &self.single_view:
            PyMem_Free(self.views)
        PyMem_Free(self.vector_memory)
        self.views = NULL
        self.vector = self.vector_memory = NULL
        self.owner = None
        self.future = self.call = self.answer = self.error = None
        self.bounce = None

    def __dealloc__(self):
        self.drop()


cdef class FileOwner:
    """Whose requests these are: a file."""

    cdef int perform(self, FileRequest request) except -1:
        """Does the request, in a thread of the pool."""
        raise NotImplementedError

    cdef int on_refused(self, FileRequest request, long error) except -1:
        """The ring has not taken the request."""
        raise NotImplementedError

    cdef int on_result(self, FileRequest request, int64_t res) except -1:
        """Takes the result from the ring, or from a thread."""
        raise NotImplementedError

    cdef int on_done(self, FileRequest request) except -1:
        """The request is over, and its future done."""
        raise NotImplementedError


@cython.final
cdef class ThreadPool:
    """Up to `size` threads, made when they are needed, under names that begin with `name`."""

    def __init__(self, int size, str name):
        self.size = size
        self.name = name

    cdef bint start(self, object function, FileRequest request) except -1:
        """Has a thread call `function`; False if the interpreter ends, or no thread can be started.

        One that lives may call it all the same, then.
        """
        try:
            if self.executor is None:
                # Once the interpreter ends this raises RuntimeError too.
                from concurrent.futures import ThreadPoolExecutor
                self.executor = ThreadPoolExecutor(self.size, self.name)
            self.executor.submit(function, request, request.generation)
        except RuntimeError:
            return False
        return True

    cdef int end(self) except -1:
        """Waits for what the threads do, and lets them go."""
        executor = self.executor
        self.executor = None
        if executor is not None:
            executor.shutdown(True)
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

    cdef FileRequest take(self, FileOwner owner, Kind kind):
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
        request.owner = owner
        request.kind = kind
        request.access = UNORDERED
        request.appending = request.as_offset = request.unaligned = request.threaded = False
        request.patient = False
        request.offset = request.length = request.skip = request.done = request.result = 0
        request.rw_flags = 0
        return request

    cdef int release(self, FileRequest request) except -1:
        """Makes the record free for another request."""
        request.generation += 1
        if request.bounce is not None:
            self.pool.give_buffer(request.bounce)
        request.drop()
        self.free.append(request)
        return 0

    cdef int count(self, FileOwner owner, int what) except -1:
        self.counts[what] += 1
        if owner is not None:
            owner.counts[what] += 1
        return 0

    # The ring

    cdef bint has_ring(self) except -1:
        """Whether there is a ring; a loop that has none is given one at the first need."""
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
        """Queues a request for the io_submit of this turn's end; has_ring() was asked before."""
        request.iocb.aio_data = request_id(SOURCE_TAG | request.index, request.generation)
        request.iocb.aio_reserved2 = 0
        request.iocb.aio_key = 0
        request.iocb.aio_flags = 0
        request.iocb.aio_reqprio = 0
        self.queue.push(request)
        self.waiting += 1
        if self.ring is not None:
            self.ring.submit_later()
        return 0

    cdef int submit_if_underfilled(self) except -1:
        """Submits now, if more is held back for the turn's end than the device has to do."""
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
                self.resolve(request, None, None)
                continue
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
                self.queue.push(request)
                self.waiting += 1
            else:
                request.owner.on_refused(request, error)
        return 0

    cdef int complete(self, abi.io_event *event) except -1:
        cdef uint64_t index = event.data & (SOURCE_TAG - 1)
        cdef FileRequest request
        if index >= <uint64_t>len(self.requests):
            return 0
        request = self.requests[<Py_ssize_t>index]
        if request.generation != event.data >> 32 or request.owner is None:
            return 0
        self.in_flight -= 1
        request.owner.on_result(request, event.res)
        return 0

    # Threads

    cdef int to_thread(self, FileRequest request) except -1:
        if request.kind == FILE_READ:
            self.count(request.owner, THREAD_READS)
        elif request.kind == FILE_WRITE:
            self.count(request.owner, THREAD_WRITES)
        elif request.kind == FILE_SYNC:
            self.count(request.owner, THREAD_SYNCS)
        else:
            self.count(request.owner, THREAD_CALLS)
        self.in_threads += 1
        request.threaded = True
        request.begun = False
        try:
            if not (request.patient and self.patient_threads.start(self._run, request)):
                if not self.threads.start(self._run, request):
                    self._run(request, request.generation)
        except BaseException as error:
            self.in_threads -= 1
            self.resolve(request, None, error)
        return 0

    def _run(self, FileRequest request, uint32_t generation):
        """In a thread: does the request, unless that was begun, and lets the loop know."""
        if request.begun or request.generation != generation:
            return
        request.begun = True
        try:
            if request.future.cancelled():
                pass
            elif request.kind == FILE_CALL:
                request.answer = request.call()
            else:
                request.owner.perform(request)
        except BaseException as error:
            request.error = error
        self.done.append(request)
        # collect() lowers the flag before it looks: one of the two sees the other.
        if not self.collecting:
            self.collecting = True
            try:
                self.loop.call_soon_threadsafe(self.collect)
            except RuntimeError:
                pass  # the loop is closed; shutdown() collects, if anyone does

    def collect(self):
        """Finishes what the threads have done."""
        cdef FileRequest request
        self.collecting = False
        while self.done:
            request = self.done.popleft()
            self.in_threads -= 1
            if request.error is not None:
                self.resolve(request, None, request.error)
            elif request.kind == FILE_CALL:
                self.resolve(request, request.answer, None)
            else:
                request.owner.on_result(request, request.result)

    def call(self, function, *, bint patient=False):
        """Calls `function` in a thread; answers a future of what it returns.

        patient: it may wait for ever.
        """
        cdef FileRequest request = self.take(None, FILE_CALL)
        future = request.future = future_for(self.loop)
        request.call = function
        request.patient = patient
        self.to_thread(request)
        return future

    # Results

    cdef bint charge_inline_budget(self, int64_t size) except -1:
        """Takes from what may be answered from memory in this turn; False if that is spent.

        A coroutine that only ever finds its data in memory would else keep all others waiting.
        """
        if self.loop_reactor is not None:
            if self.loop_reactor.iterations != self.budget_turn:
                self.budget_turn = self.loop_reactor.iterations
                self.budget = INLINE_BYTES_MAX
        elif not self.refill_scheduled:
            self.refill_scheduled = True
            self.loop.call_soon(self.refill)
        self.budget -= size + INLINE_COST
        return self.budget >= 0

    def refill(self):
        """A new turn has begun."""
        self.refill_scheduled = False
        self.budget = INLINE_BYTES_MAX

    cdef int resolve(self, FileRequest request, object result, object error) except -1:
        """Finishes the future, unless it was cancelled, and the request."""
        cdef FileOwner owner = request.owner
        future = request.future
        try:
            if not future.done():
                if error is None:
                    future.set_result(result)
                else:
                    if isinstance(error, StopIteration):
                        error = RuntimeError(f"{error!r} was raised in a thread")
                    future.set_exception(error)
        except RuntimeError:
            pass  # the loop is closed: nobody can be told any more
        if owner is not None:
            owner.on_done(request)
        self.release(request)
        return 0


    # The end

    def shutdown(self):
        """Waits for all that is under way, and gives ring and threads back.

        What is asked for after that gets new threads, and no ring but the loop's.
        """
        if self.is_forked_child():
            return 0
        pending = self.in_flight + self.waiting + self.in_threads
        # What a thread works on holds the queue: if the last reference was there, all is done.
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
        for threads in (self.threads, self.patient_threads):
            try:
                (<ThreadPool>threads).end()
            except RuntimeError:
                pass  # the last reference was in one of them, which cannot wait for itself
        return pending

    def __del__(self):
        if self.loop is None:
            return
        if self.shutdown():
            warnings.warn(f"{self.loop!r} was dropped with I/O of files in flight",
                          ResourceWarning, stacklevel=2, source=self)

    def statistics(self):
        """The counters, as a FileStatistics."""
        return FileStatistics(*[self.counts[i] for i in range(COUNTS)],
                              in_flight=self.in_flight, waiting=self.waiting,
                              in_threads=self.in_threads)


def queue_of(loop):
    """The FileQueue of a loop, made at the first call."""
    queue = getattr(loop, "_aiopoll_files", None)
    if queue is None:
        queue = FileQueue(loop)
        loop._aiopoll_files = queue
    return queue
