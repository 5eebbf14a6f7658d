"""The way of a file's requests: the route that each takes, its turn, and its result.

Facts.  AIO is asynchronous for O_DIRECT reads, for O_DIRECT writes over what is allocated, and for
fsync (a kernel worker does that).  A buffered read or write happens within io_submit and may
block there, and so does a direct write that extends the file or fills a hole: with RWF_NOWAIT
they answer EAGAIN instead.  preadv2 with RWF_NOWAIT reads from the page cache.

Rule.
  direct read                    AIO with RWF_NOWAIT; EAGAIN: thread
  direct write within the file   AIO with RWF_NOWAIT; EAGAIN: thread
  direct write past its end      thread
  direct, aligned at no end      read: AIO into an aligned buffer; write: thread, alone
  fsync, datasync                AIO, where the file takes it; else thread
  buffered read                  at once if it is cached and small, else thread
  all else                       thread
What is `streaming` (no disk's file: pipes, devices, proc) has a cursor of the kernel's: what is done at
it is a call in a thread, one of those that may wait for ever.
A descriptor that somebody else owns (closefd=False) is duplicated at once if it is a file without
another end.  A duplicate of a pipe, socket or terminal would keep its peer from seeing the end: that
is made for each call, in a thread, and only while the number names the file that was given.
Writes of a direct file have an access: one that changes part of a block, the size or the
allocation goes alone, so that no block is read, changed and written under another one's hands.

Why.  No call of the loop's thread blocks.

Cost.  Unaligned direct writes are one at a time; a buffered write is a thread's hop.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EBADF, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.stat cimport S_IFMT, fstat, struct_stat
from posix.unistd cimport close, fdatasync, fsync

from aiopoll.aio cimport abi
from aiopoll.files.scheduler cimport (
    AIO_READS, AIO_SYNCS, AIO_WRITES, BLOCKED, BOUNCED, EXCLUSIVE, FILE_READ, FILE_SYNC, FILE_WRITE,
    UNORDERED, INLINE_READS, SHARED,
)
from aiopoll.loop.core cimport future_for
from aiopoll.reactor.duplicate cimport duplicate

import functools
import os

from aiopoll.reactor.duplicate import give_back

cdef enum:
    INLINE_MAX = 128 << 10  # longer copies from the page cache are left to threads
    BOUNCE_MAX = 1 << 20  # what is longer goes through a buffer of this size, in a thread


cdef class FileRoutes(FileOwner):
    """What FileCore stands on."""

    cdef int identify(self, int fd) except -1:
        """Notes which file it is that was given."""
        cdef struct_stat status
        if fstat(fd, &status) != 0:
            raise self.os_error(errno)
        self.identity = [status.st_dev, status.st_ino, status.st_rdev]
        self.kind = status.st_mode & S_IFMT
        return 0

    cdef bint is_given(self, int fd) noexcept:
        """Whether it is the file that was given."""
        cdef struct_stat status
        return (fstat(fd, &status) == 0
                and status.st_dev == self.identity[0] and status.st_ino == self.identity[1]
                and status.st_rdev == self.identity[2] and (status.st_mode & S_IFMT) == self.kind)

    cdef int enter(self) except -1:
        """The descriptor for one call, which leave() ends; any thread, with the GIL.

        Raises OSError (EBADF) if the number that was given names another file by now.
        """
        cdef int fd
        if self.fd < 0:
            raise self.os_error(EBADF)
        if not self.borrowed:
            return self.fd
        fd = duplicate(self.fd)
        if not self.is_given(fd):
            close(fd)
            raise self.os_error(EBADF)
        return fd

    cdef int leave(self, int fd) except -1:
        if self.borrowed:
            with nogil:
                close(fd)
        return 0

    cdef object start(self, FileRequest request):
        """Sends a request on its way; answers its future."""
        future = request.future = future_for(self.queue.loop)
        self.pending += 1
        if request.kind == FILE_WRITE:
            if request.appending:
                request.access = EXCLUSIVE
            elif self.direct:
                request.unaligned = (request.offset | request.length) % self.offset_alignment != 0
                request.access = EXCLUSIVE if request.unaligned else SHARED
        if request.access == EXCLUSIVE:
            if self.exclusive or self.sharing > 0:
                self.held.append(request)
                return future
            self.exclusive = True
        elif request.access == SHARED:
            if self.exclusive or self.held:
                self.held.append(request)
                return future
            self.sharing += 1
        try:
            self.route(request)
        except BaseException as error:
            self.queue.resolve(request, None, error)
        self.queue.submit_if_underfilled()
        return future

    cdef int route(self, FileRequest request) except -1:
        """Chooses the route."""
        if request.future.done():
            return self.queue.resolve(request, None, None)
        if request.kind == FILE_READ:
            return self.go_read(request)
        if request.kind == FILE_WRITE:
            return self.go_write(request)
        if request.kind == FILE_SYNC and not self.borrowed and self.queue.has_ring():
            request.iocb.aio_fildes = self.fd
            request.iocb.aio_buf = 0
            request.iocb.aio_nbytes = 0
            request.iocb.aio_offset = 0
            request.iocb.aio_rw_flags = 0
            self.queue.count(self, AIO_SYNCS)
            return self.queue.submit(request)
        return self.queue.to_thread(request)

    cdef int go_read(self, FileRequest request) except -1:
        cdef int64_t span
        if request.length == 0:
            return self.succeed(request)
        if not self.direct:
            if self.use_nowait and request.length <= INLINE_MAX and self.read_inline(request):
                return 0
            return self.queue.to_thread(request)
        if not self.is_aligned(request):
            if request.answer is None or (request.offset | request.length) % self.offset_alignment:
                self.queue.count(self, BOUNCED)
            request.skip = request.offset % self.offset_alignment
            span = request.skip + request.length + self.offset_alignment - 1
            span -= span % self.offset_alignment
            request.unaligned = True
            request.use_bounce(self.queue.pool, min(span, <int64_t>BOUNCE_MAX),
                               self.memory_alignment)
            if span > BOUNCE_MAX:
                return self.queue.to_thread(request)
        if not self.use_nowait or request.nr_vector > FILE_VECTOR_MAX or not self.queue.has_ring():
            return self.queue.to_thread(request)
        self.queue.count(self, AIO_READS)
        return self.to_ring(request)

    cdef int go_write(self, FileRequest request) except -1:
        cdef iovec *vector
        cdef size_t nr
        if request.length == 0:
            return self.succeed(request)
        if not self.direct or request.appending:
            return self.queue.to_thread(request)
        if not self.is_aligned(request):
            self.queue.count(self, BOUNCED)
            if request.unaligned or request.length > BOUNCE_MAX:
                request.unaligned = True
                request.use_bounce(self.queue.pool,
                                   min(request.length + 2 * self.offset_alignment,
                                       <int64_t>BOUNCE_MAX), self.memory_alignment)
                return self.queue.to_thread(request)
            request.use_bounce(self.queue.pool, request.length, self.memory_alignment)
            vector = request.vector
            nr = request.nr_vector
            file_copy(&vector, &nr, request.bounce.data, request.length, True)
            request.single.iov_base = request.bounce.data
            request.single.iov_len = request.length
            request.vector = &request.single
            request.nr_vector = 1
        if (not self.use_nowait or request.nr_vector > FILE_VECTOR_MAX
                or request.offset + request.length > self.size or not self.queue.has_ring()):
            return self.queue.to_thread(request)
        self.queue.count(self, AIO_WRITES)
        return self.to_ring(request)

    cdef bint is_aligned(self, FileRequest request) noexcept:
        cdef size_t i
        cdef size_t address
        if (request.offset | request.length) % self.offset_alignment:
            return False
        for i in range(request.nr_vector):
            address = <size_t>request.vector[i].iov_base
            if address % self.memory_alignment:
                return False
            if request.vector[i].iov_len % self.offset_alignment:
                return False
        return True

    cdef int to_ring(self, FileRequest request) except -1:
        cdef bint writing = request.kind == FILE_WRITE
        cdef int64_t span
        request.iocb.aio_fildes = self.fd
        request.iocb.aio_rw_flags = request.rw_flags | FILE_RWF_NOWAIT
        request.iocb.aio_offset = request.offset
        if request.unaligned:
            span = request.skip + request.length + self.offset_alignment - 1
            request.iocb.aio_lio_opcode = abi.IOCB_CMD_PREAD
            request.iocb.aio_offset -= request.skip
            request.iocb.aio_buf = <uint64_t>request.bounce.data
            request.iocb.aio_nbytes = span - span % self.offset_alignment
        elif request.nr_vector == 1:
            request.iocb.aio_lio_opcode = (abi.IOCB_CMD_PWRITE if writing
                                           else abi.IOCB_CMD_PREAD)
            request.iocb.aio_buf = <uint64_t>request.vector.iov_base
            request.iocb.aio_nbytes = request.vector.iov_len
        else:
            request.iocb.aio_lio_opcode = (abi.IOCB_CMD_PWRITEV if writing
                                           else abi.IOCB_CMD_PREADV)
            request.iocb.aio_buf = <uint64_t>request.vector
            request.iocb.aio_nbytes = request.nr_vector
        return self.queue.submit(request)

    cdef bint read_inline(self, FileRequest request) except -1:
        """Reads what is cached; whether the request is over."""
        cdef bint now = self.queue.charge_inline_budget(request.length)
        cdef int result = file_transfer(
            self.fd, &request.vector, &request.nr_vector, request.offset, request.length,
            FILE_RWF_NOWAIT, False, 1, &request.done)
        if result == -EAGAIN:
            self.queue.count(self, BLOCKED)
            return False
        if result == -EOPNOTSUPP or result == -ENOSYS or result == -EPERM or result == -EINVAL:
            self.use_nowait = False
            return False
        self.queue.count(self, INLINE_READS)
        if now:
            self.on_result(request, result)
        else:
            self.queue.loop.call_soon(self._returned_later, request, result)
        return True

    def _returned_later(self, FileRequest request, result):
        self.on_result(request, result)

    cdef int perform(self, FileRequest request) except -1:
        cdef int fd = self.enter()
        try:
            return self.perform_on(fd, request)
        finally:
            self.leave(fd)

    cdef int perform_on(self, int fd, FileRequest request) except -1:
        cdef int64_t result = 0, rest = request.length - request.done
        cdef int64_t offset = request.offset + request.done
        cdef bint writing = request.kind == FILE_WRITE
        cdef uint32_t align = self.offset_alignment
        cdef char *bounce
        cdef int64_t bounce_size
        if request.kind == FILE_SYNC:
            with nogil:
                if request.iocb.aio_lio_opcode == abi.IOCB_CMD_FDSYNC:
                    result = fdatasync(fd)
                else:
                    result = fsync(fd)
                if result < 0:
                    result = -errno
        elif request.unaligned:
            bounce = request.bounce.data
            bounce_size = min(request.bounce.size, <int64_t>BOUNCE_MAX)
            bounce_size -= bounce_size % align
            with nogil:
                if writing:
                    result = file_write_unaligned(
                        fd, &request.vector, &request.nr_vector, offset, rest, request.rw_flags,
                        align, bounce, bounce_size, &request.done)
                else:
                    result = file_read_unaligned(
                        fd, &request.vector, &request.nr_vector, offset, rest, align, bounce,
                        bounce_size, &request.done)
        elif request.appending:
            with nogil:
                result = file_append(fd, &request.vector, &request.nr_vector, rest,
                                     request.rw_flags, &request.done)
            if result >= 0:
                request.offset = result
                result = 0
        else:
            with nogil:
                result = file_transfer(fd, &request.vector, &request.nr_vector, offset, rest,
                                       request.rw_flags, writing, align, &request.done)
        request.result = result
        return 0

    cdef int on_result(self, FileRequest request, int64_t res) except -1:
        """From the ring the number of bytes, from elsewhere 0 with `done`; or -errno."""
        cdef int64_t got
        if res < 0:
            if not request.threaded and (res == -EAGAIN or res == -EOPNOTSUPP):
                self.queue.count(self, BLOCKED)
                return self.on_refused(request, -res)
            return self.queue.resolve(request, None, self.os_error(-res))
        if res == 0:
            if request.kind == FILE_WRITE and not request.threaded:
                return self.queue.to_thread(request)
            return self.succeed(request)
        if request.unaligned:
            # A read into the bounce buffer; what is there of the blocks, less what comes before.
            got = min(max(0, res - request.skip), request.length)
            file_copy(&request.vector, &request.nr_vector, request.bounce.data + request.skip,
                      got, False)
            request.done = got
            if got < request.length and res % self.offset_alignment == 0:
                return self.queue.to_thread(request)  # short, and not by the end of the file
            return self.succeed(request)
        request.done += res
        if request.done < request.length and (
                request.kind == FILE_WRITE or res % self.offset_alignment == 0):
            file_advance(&request.vector, &request.nr_vector, res)
            return self.queue.to_thread(request)
        return self.succeed(request)

    cdef int on_refused(self, FileRequest request, long error) except -1:
        if error == EOPNOTSUPP and request.kind != FILE_SYNC:
            self.use_nowait = False
        return self.queue.to_thread(request)

    cdef int succeed(self, FileRequest request) except -1:
        result = None
        if request.kind == FILE_READ:
            if request.answer is None:
                result = request.done
            elif request.done == request.length:
                result = request.answer
            else:
                result = PyBytes_FromStringAndSize(PyBytes_AS_STRING(request.answer),
                                                   request.done)
        elif request.kind == FILE_WRITE:
            if request.offset + request.length > self.size:
                self.size = request.offset + request.length
            if request.appending and self.size > self.append_at:
                self.append_at = self.size
            result = request.offset if request.as_offset else request.length
        return self.queue.resolve(request, result, None)

    cdef object os_error(self, int64_t code):
        text = os.strerror(code)
        if code == EINVAL and self.direct:
            text += (" (direct I/O: does the device take blocks of"
                     f" {self.offset_alignment} bytes?)")
        return OSError(code, text, self.name)

    cdef int on_done(self, FileRequest request) except -1:
        self.pending -= 1
        if request.appending:
            self.append_at -= request.length - request.done  # the kernel leaves no gaps
        if request.access == EXCLUSIVE:
            self.exclusive = False
        elif request.access == SHARED:
            self.sharing -= 1
        if self.held and not self.pumping:
            self.run_waiting()
        if self.pending == 0 and self.closing is not None:
            self._close_now()
        return 0

    cdef int run_waiting(self) except -1:
        """Starts the writes that waited for their access."""
        cdef FileRequest request
        self.pumping = True
        try:
            while self.held and not self.exclusive:
                request = self.held[0]
                if request.access == EXCLUSIVE:
                    if self.sharing > 0:
                        break
                    self.exclusive = True
                else:
                    self.sharing += 1
                self.held.popleft()
                try:
                    self.route(request)
                except BaseException as error:
                    self.queue.resolve(request, None, error)
        finally:
            self.pumping = False
        return 0

    # The end

    def _close_now(self):
        fd = self.fd
        closing = self.closing
        if fd < 0 or self.borrowed:
            self.fd = -1
            if not closing.done():
                closing.set_result(None)
            return
        self.fd = -1
        close_fd = os.close if self.closefd else give_back
        try:
            closed = self.queue.call(functools.partial(close_fd, fd))
            closed.add_done_callback(self._closed)
        except RuntimeError:
            close_fd(fd)  # the loop is closed, or the interpreter is about to end

    def _closed(self, closed):
        error = closed.exception()
        if not self.closing.done():
            if error is None:
                self.closing.set_result(None)
            else:
                self.closing.set_exception(error)
