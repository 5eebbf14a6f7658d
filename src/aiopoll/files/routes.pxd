"""The way of a file's requests."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.types cimport mode_t

from aiopoll.files.scheduler cimport FileOwner, FileQueue, FileRequest, iovec

cdef extern from "file_ops.h" nogil:
    enum:
        FILE_RWF_DSYNC
        FILE_RWF_NOWAIT
        FILE_VECTOR_MAX

    int file_transfer(int fd, iovec **vector, size_t *nr, int64_t offset, int64_t length,
                      int rw_flags, bint writing, uint32_t align, int64_t *done)
    void file_copy(iovec **vector, size_t *nr, char *buffer, size_t length, bint from_vector)
    void file_advance(iovec **vector, size_t *nr, size_t count)
    int file_read_unaligned(int fd, iovec **vector, size_t *nr, int64_t offset, int64_t length,
                            uint32_t align, char *bounce, int64_t bounce_size, int64_t *done)
    int file_write_unaligned(int fd, iovec **vector, size_t *nr, int64_t offset, int64_t length,
                             int rw_flags, uint32_t align, char *bounce, int64_t bounce_size,
                             int64_t *done)
    int64_t file_append(int fd, iovec **vector, size_t *nr, int64_t length, int rw_flags,
                        int64_t *done)
    int file_direct_alignment(int fd, uint32_t *memory, uint32_t *offset)
    bint file_takes_offsets(int fd)

cdef class FileRoutes(FileOwner):
    cdef FileQueue queue
    cdef int fd
    cdef bint can_read
    cdef bint can_write
    cdef bint o_append
    cdef readonly bint direct
    cdef bint closefd
    cdef int number  # what was given, and fileno() answers; `fd` may be a duplicate
    cdef readonly bint borrowed  # `fd` is somebody else's: enter() looks whose it is before each use
    cdef uint64_t[3] identity  # of the file that was given, if it is borrowed
    cdef mode_t kind  # its bits of S_IFMT
    cdef readonly bint streaming  # the cursor is the kernel's: read(2) and write(2), no offsets
    cdef bint use_nowait
    cdef bint pumping
    cdef public object name
    cdef uint32_t memory_alignment
    cdef uint32_t offset_alignment
    cdef readonly uint64_t writes
    cdef int64_t size
    cdef int64_t append_at
    cdef Py_ssize_t pending
    cdef Py_ssize_t sharing
    cdef bint exclusive
    cdef object held
    cdef object closing
    cdef object __weakref__

    cdef int identify(self, int fd) except -1
    cdef bint is_given(self, int fd) noexcept
    cdef int enter(self) except -1
    cdef int leave(self, int fd) except -1
    cdef object start(self, FileRequest request)
    cdef int route(self, FileRequest request) except -1
    cdef int go_read(self, FileRequest request) except -1
    cdef int go_write(self, FileRequest request) except -1
    cdef bint read_inline(self, FileRequest request) except -1
    cdef bint is_aligned(self, FileRequest request) noexcept
    cdef int to_ring(self, FileRequest request) except -1
    cdef int perform_on(self, int fd, FileRequest request) except -1
    cdef int succeed(self, FileRequest request) except -1
    cdef int run_waiting(self) except -1
    cdef object os_error(self, int64_t code)
