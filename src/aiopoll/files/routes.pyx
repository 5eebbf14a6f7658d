"""The route of a file's request, its system call in a thread, and what its result means.

Facts.  AIO is asynchronous for O_DIRECT reads, for O_DIRECT writes over allocated blocks, and for
fsync (a kernel worker does it).  A buffered read or write runs within io_submit and may block
there.  So does a direct write that extends the file or fills a hole.  With RWF_NOWAIT these
return EAGAIN instead.  preadv2 with RWF_NOWAIT reads from the page cache.

Rule.
  direct read                    AIO with RWF_NOWAIT; EAGAIN: thread
  direct write within the file   AIO with RWF_NOWAIT; EAGAIN: thread
  direct write past its end      thread
  direct, aligned at no end      read: AIO into an aligned buffer; write: thread, alone
  fsync, datasync                AIO, where the file takes it; else thread
  buffered read                  at once if it is cached and small, else thread
  all else                       thread
A `streaming` file (a pipe, a device, a file of proc) has a cursor of the kernel's: its calls go to
threads, patient ones, a read once the loop finds the file readable (binary.py, readable.py).
These functions decide and compute; the scheduler moves the request.

Why.  No call of the loop's thread blocks.  All code that depends on the file's kind is here.

Cost.  Unaligned direct writes run one at a time; a buffered write costs a hop to a thread.

Failure prevented.  A direct read ends within a block only at the end of the file.  A short one that
ends with a block, taken for the last, would lose the rest of the file.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, errno
from libc.stdint cimport uint32_t, uint64_t
from posix.unistd cimport fdatasync, fsync

from aiopoll.aio cimport abi
from aiopoll.files.open_file cimport BOUNCED, OpenFile, iovec
from aiopoll.files.request cimport (
    FILE_APPEND, FILE_READ, FILE_SYNC, IN_FLIGHT, count, is_write,
)

cdef extern from "file_ops.h" nogil:
    enum:
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

cdef enum:
    INLINE_MAX = 128 << 10  # longer copies from the page cache are left to threads
    BOUNCE_MAX = 1 << 20  # longer requests use a buffer of this size, in a thread


cdef int choose_route(FileRequest request) except -1:
    """Returns the Route of a request that has its access, and prepares the request for it."""
    if request.future.done():
        return OVER
    if request.kind == FILE_SYNC:
        return TO_THREAD if request.file.borrowed else fill_sync(request)
    if request.call is not None:
        return TO_THREAD
    if request.length == 0:
        return succeed(request)
    if request.kind == FILE_READ:
        return choose_read(request, request.file)
    return choose_write(request, request.file)


cdef int choose_read(FileRequest request, OpenFile file) except -1:
    cdef int64_t span
    if not file.direct:
        if file.use_nowait and request.length <= INLINE_MAX:
            return read_cached(request, file)
        return TO_THREAD
    if not is_aligned(request, file):
        if request.result is None or (request.offset | request.length) % file.offset_alignment:
            count(request, BOUNCED)
        request.skip = request.offset % file.offset_alignment
        span = request.skip + request.length + file.offset_alignment - 1
        span -= span % file.offset_alignment
        request.unaligned = True
        take_bounce(request, span)
        if span > BOUNCE_MAX:
            return TO_THREAD
    if not file.use_nowait or request.nr_vector > FILE_VECTOR_MAX:
        return TO_THREAD
    return fill_transfer(request, file)


cdef int choose_write(FileRequest request, OpenFile file) except -1:
    if not file.direct:
        return TO_THREAD
    if not is_aligned(request, file):
        count(request, BOUNCED)
        if request.unaligned or request.length > BOUNCE_MAX:
            request.unaligned = True
            take_bounce(request, request.length + 2 * file.offset_alignment)
            return TO_THREAD
        take_bounce(request, request.length)
        file_copy(&request.vector, &request.nr_vector, request.bounce.data, request.length, True)
        request.use(request.bounce.data, request.length)
    if (not file.use_nowait or request.nr_vector > FILE_VECTOR_MAX
            or request.offset + request.length > file.size):
        return TO_THREAD
    return fill_transfer(request, file)


cdef int take_bounce(FileRequest request, int64_t size) except -1:
    request.bounce = request.file.pool.take_buffer(min(size, <int64_t>BOUNCE_MAX),
                                                   request.file.memory_alignment)
    return 0


cdef bint is_aligned(FileRequest request, OpenFile file) noexcept:
    cdef size_t i
    cdef size_t address
    if (request.offset | request.length) % file.offset_alignment:
        return False
    for i in range(request.nr_vector):
        address = <size_t>request.vector[i].iov_base
        if address % file.memory_alignment:
            return False
        if request.vector[i].iov_len % file.offset_alignment:
            return False
    return True


cdef int fill_sync(FileRequest request) noexcept:
    request.iocb.aio_fildes = request.file.fd
    request.iocb.aio_buf = request.iocb.aio_nbytes = 0
    request.iocb.aio_offset = request.iocb.aio_rw_flags = 0
    return TO_RING


cdef int fill_transfer(FileRequest request, OpenFile file) noexcept:
    cdef bint writing = is_write(request)
    cdef int64_t span
    request.iocb.aio_fildes = file.fd
    request.iocb.aio_rw_flags = request.rw_flags | FILE_RWF_NOWAIT
    request.iocb.aio_offset = request.offset
    if request.unaligned:
        span = request.skip + request.length + file.offset_alignment - 1
        request.iocb.aio_lio_opcode = abi.IOCB_CMD_PREAD
        request.iocb.aio_offset -= request.skip
        request.iocb.aio_buf = <uint64_t>request.bounce.data
        request.iocb.aio_nbytes = span - span % file.offset_alignment
    elif request.nr_vector == 1:
        request.iocb.aio_lio_opcode = abi.IOCB_CMD_PWRITE if writing else abi.IOCB_CMD_PREAD
        request.iocb.aio_buf = <uint64_t>request.vector.iov_base
        request.iocb.aio_nbytes = request.vector.iov_len
    else:
        request.iocb.aio_lio_opcode = abi.IOCB_CMD_PWRITEV if writing else abi.IOCB_CMD_PREADV
        request.iocb.aio_buf = <uint64_t>request.vector
        request.iocb.aio_nbytes = request.nr_vector
    return TO_RING


cdef int read_cached(FileRequest request, OpenFile file) noexcept:
    """Reads from the page cache, as far as it has the data."""
    cdef int code = file_transfer(file.fd, &request.vector, &request.nr_vector, request.offset,
                                  request.length, FILE_RWF_NOWAIT, False, 1, &request.done)
    if code == -EAGAIN:
        return WOULD_BLOCK
    if code == -EOPNOTSUPP or code == -ENOSYS or code == -EPERM or code == -EINVAL:
        file.use_nowait = False
        return TO_THREAD
    request.code = code
    return CACHED


cdef int perform(FileRequest request) except -1:
    """Makes the system call of a request, in a thread; stores its result in request.code."""
    cdef int fd = request.file.enter()
    try:
        request.code = perform_on(fd, request, request.file)
    finally:
        request.file.leave(fd)
    return 0


cdef int64_t perform_on(int fd, FileRequest request, OpenFile file) except? -1:
    cdef int64_t code, rest = request.length - request.done
    cdef int64_t offset = request.offset + request.done
    cdef bint writing = is_write(request)
    cdef uint32_t align = file.offset_alignment
    cdef char *bounce
    cdef int64_t bounce_size
    if request.kind == FILE_SYNC:
        with nogil:
            if request.iocb.aio_lio_opcode == abi.IOCB_CMD_FDSYNC:
                code = fdatasync(fd)
            else:
                code = fsync(fd)
            if code < 0:
                code = -errno
    elif request.unaligned:
        bounce = request.bounce.data
        bounce_size = min(request.bounce.size, <int64_t>BOUNCE_MAX)
        bounce_size -= bounce_size % align
        with nogil:
            if writing:
                code = file_write_unaligned(
                    fd, &request.vector, &request.nr_vector, offset, rest, request.rw_flags,
                    align, bounce, bounce_size, &request.done)
            else:
                code = file_read_unaligned(
                    fd, &request.vector, &request.nr_vector, offset, rest, align, bounce,
                    bounce_size, &request.done)
    elif writing and file.o_append:
        with nogil:
            code = file_append(fd, &request.vector, &request.nr_vector, rest, request.rw_flags,
                               &request.done)
        if code >= 0:
            request.offset = code
            code = 0
    else:
        with nogil:
            code = file_transfer(fd, &request.vector, &request.nr_vector, offset, rest,
                                 request.rw_flags, writing, align, &request.done)
    return code


cdef int take_result(FileRequest request, int64_t code) except -1:
    """Takes a result: -errno, or bytes from the ring, or 0 with `done`; returns the next Route."""
    cdef OpenFile file = request.file
    cdef bint from_ring = request.state == IN_FLIGHT
    cdef int64_t got
    if code < 0:
        if from_ring and (code == -EAGAIN or code == -EOPNOTSUPP):
            note_refusal(request, -code)
            return WOULD_BLOCK
        request.error = file.os_error(-code)
        return OVER
    if code == 0:
        return TO_THREAD if from_ring and is_write(request) else succeed(request)
    if request.unaligned:
        # A read into the bounce buffer: the bytes read, less those before the offset.
        got = min(max(0, code - request.skip), request.length)
        file_copy(&request.vector, &request.nr_vector, request.bounce.data + request.skip,
                  got, False)
        request.done = got
        if got < request.length and code % file.offset_alignment == 0:
            return TO_THREAD  # short, but not because of the end of the file
        return succeed(request)
    request.done += code
    if request.done < request.length and (is_write(request)
                                          or code % file.offset_alignment == 0):
        file_advance(&request.vector, &request.nr_vector, code)
        return TO_THREAD
    return succeed(request)


cdef void note_refusal(FileRequest request, int64_t error) noexcept:
    """Notes a refusal: an errno of io_submit, or of an event that means the same."""
    if error == EOPNOTSUPP and request.kind != FILE_SYNC:
        request.file.use_nowait = False


cdef int succeed(FileRequest request) except -1:
    cdef OpenFile file = request.file
    if request.kind == FILE_READ:
        if request.result is None:
            request.result = request.done
        elif request.done < request.length:
            request.result = PyBytes_FromStringAndSize(PyBytes_AS_STRING(request.result),
                                                       request.done)
    elif is_write(request):
        if request.offset + request.length > file.size:
            file.size = request.offset + request.length
        if file.o_append and file.size > file.append_at:
            file.append_at = file.size
        request.result = request.offset if request.kind == FILE_APPEND else request.length
    return OVER
