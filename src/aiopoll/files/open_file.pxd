"""An open file, as its requests see it."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.stat cimport struct_stat

from aiopoll.aio.buffers cimport BufferPool

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

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

cdef enum Access:  # how a request relates to the others of its file
    UNORDERED
    SHARED
    EXCLUSIVE

cdef class Counters:
    cdef uint64_t[COUNTS] counts
    cdef Counters total

    cdef object statistics(self, Py_ssize_t in_flight, Py_ssize_t waiting, Py_ssize_t in_threads)

cdef class OpenFile:
    cdef int fd
    cdef int number  # of fileno(), as passed to open(); `fd` may be a duplicate
    cdef object name
    cdef bint closefd
    cdef bint can_read
    cdef bint can_write
    cdef bint o_append
    cdef bint direct
    cdef bint use_nowait
    cdef bint borrowed  # other code owns `fd`: enter() checks before each use that it is the file's
    cdef bint streaming  # the kernel keeps the cursor: read(2) and write(2), no offsets
    cdef struct_stat given  # the file's status when it was opened
    cdef uint32_t memory_alignment
    cdef uint32_t offset_alignment
    cdef int64_t size
    cdef int64_t append_at
    cdef Counters counters
    cdef BufferPool pool  # of its event loop

    cdef Py_ssize_t pending  # requests that are not over
    cdef Py_ssize_t sharing
    cdef bint exclusive
    cdef bint running_held
    cdef object held
    cdef object closing

    cdef int open(self, int fd, object name, bint closefd) except -1
    cdef int examine(self, int fd) except -1
    cdef bint is_given(self, int fd) noexcept
    cdef int enter(self) except -1
    cdef int leave(self, int fd) except -1
    cdef object take_descriptor(self)
    cdef object os_error(self, int64_t code)
    cdef bint acquire(self, int access) noexcept
    cdef void end_access(self, int access) noexcept
