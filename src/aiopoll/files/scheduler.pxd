"""Requests of files, on whatever ring the loop has, and the threads for what no ring does."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiopoll.aio cimport abi
from aiopoll.aio.buffers cimport AlignedBuffer, BufferPool
from aiopoll.files.own_ring cimport FileRing
from aiopoll.reactor.aio_reactor cimport AioReactor
from aiopoll.reactor.reactor cimport Reactor
from aiopoll.reactor.ready_queue cimport ReadyQueue
from aiopoll.reactor.request_source cimport RequestSource

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef enum Kind:
    FILE_READ
    FILE_WRITE
    FILE_SYNC
    FILE_CALL

cdef enum Access:  # how a request stands to the others of its file
    UNORDERED
    SHARED
    EXCLUSIVE

cdef enum:  # the counters, in the order of FileStatistics
    AIO_READS = 0
    AIO_WRITES
    AIO_SYNCS
    INLINE_READS
    THREAD_READS
    THREAD_WRITES
    THREAD_SYNCS
    THREAD_CALLS
    BLOCKED
    BOUNCED
    COUNTS

cdef class FileRequest:
    cdef abi.iocb iocb
    cdef uint32_t index
    cdef uint32_t generation
    cdef uint8_t kind
    cdef uint8_t access
    cdef bint appending
    cdef bint as_offset
    cdef bint unaligned
    cdef bint threaded
    cdef bint patient
    cdef bint begun
    cdef FileOwner owner
    cdef object future
    cdef object call
    cdef object answer
    cdef object error
    cdef AlignedBuffer bounce
    cdef iovec single
    cdef iovec *vector
    cdef iovec *vector_memory
    cdef size_t nr_vector
    cdef Py_buffer single_view
    cdef Py_buffer *views
    cdef Py_ssize_t nr_views
    cdef int64_t offset
    cdef int64_t length
    cdef int64_t skip
    cdef int64_t done
    cdef int rw_flags
    cdef int64_t result

    cdef int hold(self, object buffer, bint writable) except -1
    cdef int hold_vector(self, object buffers, bint writable) except -1
    cdef int read_into_bytes(self, int64_t size) except -1
    cdef int use_bounce(self, BufferPool pool, int64_t span, uint32_t alignment) except -1
    cdef void drop(self) noexcept

cdef class FileOwner:
    cdef uint64_t[COUNTS] counts

    cdef int perform(self, FileRequest request) except -1
    cdef int on_refused(self, FileRequest request, long error) except -1
    cdef int on_result(self, FileRequest request, int64_t res) except -1
    cdef int on_done(self, FileRequest request) except -1

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
    cdef bint collecting
    cdef readonly Py_ssize_t in_threads
    cdef readonly BufferPool pool
    cdef public object keeper
    cdef Py_ssize_t limit
    cdef int64_t budget
    cdef uint64_t budget_turn
    cdef bint refill_scheduled
    cdef uint64_t[COUNTS] counts
    cdef uint64_t made_in

    cdef bint is_forked_child(self) noexcept
    cdef FileRequest take(self, FileOwner owner, Kind kind)
    cdef int release(self, FileRequest request) except -1
    cdef int count(self, FileOwner owner, int what) except -1
    cdef bint has_ring(self) except -1
    cdef int submit(self, FileRequest request) except -1
    cdef int submit_if_underfilled(self) except -1
    cdef int to_thread(self, FileRequest request) except -1
    cdef bint charge_inline_budget(self, int64_t size) except -1
    cdef int resolve(self, FileRequest request, object result, object error) except -1
