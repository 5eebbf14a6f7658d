"""A request of a file."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from aiopoll.aio cimport abi
from aiopoll.aio.buffers cimport AlignedBuffer
from aiopoll.files.open_file cimport Access, Counters, OpenFile, iovec

cdef enum State:
    FREE
    NEW
    HELD
    QUEUED
    IN_FLIGHT
    POOLED
    IN_THREAD
    PERFORMED
    DEFERRED

cdef enum Kind:
    FILE_READ
    FILE_WRITE
    FILE_SYNC
    FILE_CALL
    FILE_APPEND  # a write whose result is its offset
    FILE_CLOSE  # a call that is made even if its future was cancelled

cdef class FileRequest:
    cdef abi.iocb iocb
    cdef uint32_t index
    cdef uint32_t generation
    cdef uint8_t state  # a State
    cdef uint8_t kind  # a Kind
    cdef uint8_t access  # an Access
    cdef bint patient
    cdef bint unaligned
    cdef object owner  # the File, kept alive until this is over
    cdef OpenFile file
    cdef Counters counters
    cdef object future
    cdef object call
    cdef object result
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
    cdef int64_t begun_at_ns  # when it was made; 0 where that is not noted
    cdef int64_t code  # the result of a thread's system call: 0 or -errno

    cdef str state_name(self)
    cdef int enter(self, State state) except -1
    cdef int hold(self, object buffer, bint writable) except -1
    cdef int hold_vector(self, object buffers, bint writable) except -1
    cdef int read_into_bytes(self, int64_t size) except -1
    cdef void use(self, void *memory, int64_t length) noexcept
    cdef void drop(self) noexcept

cdef inline int count(FileRequest request, int what) except -1:
    request.counters.counts[what] += 1
    if request.counters.total is not None:
        request.counters.total.counts[what] += 1
    return 0

cdef inline bint is_write(FileRequest request) noexcept:
    return request.kind == FILE_WRITE or request.kind == FILE_APPEND
