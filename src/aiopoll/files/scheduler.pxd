"""Requests of files, on the loop's ring or an own one, and threads for all other work."""

from libc.stdint cimport int64_t, uint64_t

from aiopoll.aio cimport abi
from aiopoll.aio.buffers cimport BufferPool
from aiopoll.files.open_file cimport Counters, OpenFile
from aiopoll.files.own_ring cimport FileRing
from aiopoll.files.request cimport FileRequest, Kind
from aiopoll.reactor.aio_reactor cimport AioReactor
from aiopoll.reactor.reactor cimport Reactor
from aiopoll.reactor.ready_queue cimport ReadyQueue
from aiopoll.reactor.request_source cimport RequestSource

cdef class ThreadPool:
    cdef int size
    cdef str name
    cdef object executor

    cdef bint start(self, object function, FileRequest request) except -1
    cdef int end(self) except -1

cdef class FileQueue(RequestSource):
    cdef readonly object loop
    cdef Reactor loop_reactor
    cdef AioReactor reactor
    cdef FileRing ring
    cdef readonly object no_ring
    cdef list requests
    cdef list free
    cdef ReadyQueue queue
    cdef ThreadPool threads
    cdef ThreadPool patient_threads
    cdef object done
    cdef int collecting  # a flag: collect() is scheduled
    cdef readonly Py_ssize_t in_threads
    cdef readonly BufferPool pool
    cdef public object keeper
    cdef Py_ssize_t limit
    cdef int64_t budget
    cdef uint64_t budget_iteration
    cdef bint refill_scheduled
    cdef Counters counters
    cdef uint64_t made_in
    cdef bint notes_times  # of the beginning of each request: a dump was made once

    cdef bint is_forked_child(self) noexcept
    cdef int end_dropped(self) except -1
    cdef FileRequest take(self, Kind kind, OpenFile file, object owner)
    cdef int release(self, FileRequest request) except -1
    cdef object start(self, FileRequest request)
    cdef int route(self, FileRequest request) except -1
    cdef int follow(self, FileRequest request, int route) except -1
    cdef int run_held(self, OpenFile file) except -1
    cdef int resolve(self, FileRequest request) except -1
    cdef bint charge_inline_budget(self, int64_t size) except -1
    cdef bint has_ring(self) except -1
    cdef int submit(self, FileRequest request) except -1
    cdef int submit_if_underfilled(self) except -1
    cdef int to_thread(self, FileRequest request) except -1
    cdef object close(self, OpenFile file)
    cdef int close_now(self, OpenFile file) except -1
