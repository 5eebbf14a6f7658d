"""A file of an event loop: positional reads, writes and syncs.

Facts.  Users of asyncio gather, shield and wait for futures; a coroutine would need a task to run.

Rule.  Each call checks its arguments, and raises at once for bad ones.  It makes one FileRequest,
and hands that to the scheduler.  The OpenFile describes the file to its requests.

Why.  The I/O is under way when a call returns, whatever happens to the caller.

Cost.  A future and a record for each call; the records are used again.

Failure prevented.  A buffer class in Python may close the file when it is asked for its memory.
The request would then read by a number that names another file by now.
"""

from cpython.number cimport PyNumber_Index
from libc.errno cimport EBUSY, EINTR, errno
from posix.unistd cimport SEEK_CUR, SEEK_END, lseek

from aiopoll.aio cimport abi
from aiopoll.aio.free_threading cimport count_up
from aiopoll.files.open_file cimport EXCLUSIVE, SHARED
from aiopoll.files.request cimport (
    FILE_APPEND, FILE_CALL, FILE_READ, FILE_SYNC, FILE_WRITE, FileRequest,
)
from aiopoll.reactor.duplicate cimport is_same_file

import functools
import io
import os
import warnings

from aiopoll.files.scheduler import queue_of

# What C keeps is there to the end of the interpreter; modules have been emptied by then.
cdef object warn = warnings.warn

cdef extern from "<fcntl.h>" nogil:
    enum:
        FALLOC_FL_KEEP_SIZE

    int fallocate(int fd, int mode, int64_t offset, int64_t length)

cdef extern from "file_ops.h" nogil:
    enum:
        FILE_RWF_DSYNC

cdef int64_t OFFSET_MAX = 0x7FFFFFFFFFFFFFFF


cdef int64_t offset_of(object offset) except -1:
    value = PyNumber_Index(offset)
    if value < 0:
        raise ValueError(f"offset must not be negative, not {value}")
    if value > OFFSET_MAX:
        raise OverflowError(f"offset must be below 2**63, not {value}")
    return value


cdef int64_t end_of(int64_t offset, int64_t length) except -1:
    if length > OFFSET_MAX - offset:
        raise OverflowError(f"{length} bytes at {offset} would end past 2**63")
    return offset + length


cdef class File:
    """A file of an event loop, by its descriptor.

    loop: the event loop whose futures the methods return.  fd: an open descriptor.  closefd:
    whether closing this closes fd; if not, fd stays its owner's.  name: for exceptions.

    Each method that does I/O returns an asyncio future.  The I/O is under way when the method
    returns: it needs no task.  Offsets and sizes are in bytes.  Any number of requests may be
    under way at once.  Those that touch the same bytes take effect in any order, each of them
    whole where it is aligned to blocks.

    A cancelled future is cancelled at once, but I/O under way is not stopped.  A read still writes
    into its buffer, and a write may still reach the file.  The buffers are held until the end.
    A request that waits for its access is not carried out.

    Methods raise ValueError once the file is closed, and io.UnsupportedOperation where its mode
    does not allow the call.  The futures raise the OSError of the system call.
    """

    def __cinit__(self, *args, **options):
        self.file = OpenFile()

    def __init__(self, loop, int fd, name=None, *, bint closefd=True):
        if self.file.fd >= 0:
            raise RuntimeError("a file is initialised once")
        self.queue = queue_of(loop)
        self.file.pool = self.queue.pool
        self.file.counters.total = self.queue.counters
        self.file.open(fd, fd if name is None else name, closefd)

    # Properties

    @property
    def loop(self):
        """The event loop that the file belongs to."""
        return self.queue.loop

    @property
    def name(self):
        """The name of the file in exceptions."""
        return self.file.name

    @name.setter
    def name(self, name):
        self.file.name = name

    @property
    def closed(self):
        """Whether close() was called."""
        return self.file.closing is not None or self.file.fd < 0

    @property
    def direct(self):
        """Whether the file is open O_DIRECT."""
        return self.file.direct

    @property
    def streaming(self):
        """Whether the kernel keeps the cursor: read(2) and write(2), no offsets."""
        return self.file.streaming

    @property
    def borrowed(self):
        """Whether other code owns the descriptor, so that each use checks it before."""
        return self.file.borrowed

    @property
    def alignment(self):
        """The multiple at which offsets, lengths and memory of direct I/O are best, in bytes.

        1 for a file that is not direct.  Unaligned requests work too, and cost more.
        """
        return max(self.file.memory_alignment, self.file.offset_alignment)

    @property
    def append_offset(self):
        """The offset of the next append(), in bytes: at first the size of the opened file.

        It may be set, as by a program that finds the end of a log in a preallocated file.
        """
        return self.file.append_at

    @append_offset.setter
    def append_offset(self, offset):
        self.file.append_at = offset_of(offset)

    def fileno(self):
        """Returns the descriptor.  Raises ValueError once the file is closed."""
        self.check_open(False, False)
        return self.file.number

    def _enter(self):
        """Returns the descriptor for one call, which _leave() ends.

        Raises OSError (EBADF) if the number names another file by now.
        """
        return self.file.enter()

    def _leave(self, int fd):
        self.file.leave(fd)

    def _first_position(self, bint at_end):
        """Returns the descriptor's position, or -errno; at_end: moves it to the end before."""
        cdef int fd = self.file.enter()
        cdef int64_t position
        # The number that was passed, if it still fits: the duplicate may be another opening.
        if (not self.file.borrowed and not self.file.closefd
                and is_same_file(self.file.number, fd)):
            position = lseek(self.file.number, 0, SEEK_END if at_end else SEEK_CUR)
        else:
            position = lseek(fd, 0, SEEK_END if at_end else SEEK_CUR)
        if position < 0:
            position = -errno
        self.file.leave(fd)
        return position

    def readable(self):
        """Whether the file is open for reading."""
        self.check_open(False, False)
        return self.file.can_read

    def writable(self):
        """Whether the file is open for writing."""
        self.check_open(False, False)
        return self.file.can_write

    def statistics(self):
        """Returns the counters of this file, as a FileStatistics."""
        return self.file.counters.statistics(self.file.pending, 0, 0)

    # Positional I/O

    def pread(self, size, offset):
        """Reads up to `size` bytes at `offset`, fewer only at the end of the file.

        Returns a future of bytes; its OSError is that of pread(2).
        """
        cdef int64_t wanted = PyNumber_Index(size), start = offset_of(offset)
        if wanted < 0:
            raise ValueError(f"size must not be negative, not {size}")
        end_of(start, wanted)
        return self.read_request(None, wanted, start, False)

    cdef object read_request(self, object buffers, int64_t size, int64_t offset, bint several):
        """size: of a new bytes object, unless negative; several: whether buffers is a sequence."""
        cdef FileRequest request
        self.check_open(True, False)
        request = self.queue.take(FILE_READ, self.file, self)
        try:
            if size >= 0:
                request.read_into_bytes(size)
            else:
                if several:
                    request.hold_vector(buffers, True)
                else:
                    request.hold(buffers, True)
                self.check_open(True, False)  # a buffer class in Python may have closed the file
                end_of(offset, request.length)
        except BaseException:
            self.queue.release(request)
            raise
        request.offset = offset
        return self.queue.start(request)

    def pread_into(self, buffer, offset):
        """Reads into the writable `buffer` at `offset`, until it is full or the file ends.

        Returns a future of the number of bytes.  The buffer must not be used before the future is
        done; if that is cancelled, not before the file is closed.
        """
        return self.read_request(buffer, -1, offset_of(offset), False)

    def preadv(self, buffers, offset):
        """Reads into several writable buffers in order; otherwise like pread_into()."""
        return self.read_request(buffers, -1, offset_of(offset), True)

    cdef object write_request(self, object data, int64_t offset, bint dsync, bint append):
        """append: to the end of the file, as it is once `data` is held."""
        cdef FileRequest request
        self.check_open(False, True)
        count_up(&self.writes)
        if self.file.o_append and not append:
            raise io.UnsupportedOperation(
                f"{self.file.name!r} is open for appending, where every write goes to the end of"
                " the file, whatever its offset: call append()")
        request = self.queue.take(FILE_APPEND if append else FILE_WRITE, self.file, self)
        try:
            if isinstance(data, (list, tuple)):
                request.hold_vector(data, False)
            else:
                request.hold(data, False)
            # A buffer class in Python may have closed the file, or appended to it.
            self.check_open(False, True)
            if append:
                offset = self.file.append_at
            end_of(offset, request.length)
        except BaseException:
            self.queue.release(request)
            raise
        request.offset = offset
        request.rw_flags = FILE_RWF_DSYNC if dsync else 0
        if append or offset + request.length > self.file.append_at:
            self.file.append_at = offset + request.length
        if self.file.o_append:
            request.access = EXCLUSIVE
        elif self.file.direct:
            request.unaligned = (offset | request.length) % self.file.offset_alignment != 0
            request.access = EXCLUSIVE if request.unaligned else SHARED
        return self.queue.start(request)

    def pwrite(self, data, offset, *, bint dsync=False):
        """Writes all of `data` at `offset`.

        dsync: the future is done once the data, and the metadata to read it back, are on the
        device (RWF_DSYNC).  Returns a future of the number of bytes.  Its OSError is that of
        pwrite(2); a part of the data may be written then.  `data` must not be changed before the
        future is done.
        """
        if isinstance(data, (list, tuple)):
            raise TypeError("pwrite() takes one buffer: call pwritev() for several")
        return self.write_request(data, offset_of(offset), dsync, False)

    def pwritev(self, buffers, offset, *, bint dsync=False):
        """Writes several buffers in order; otherwise like pwrite()."""
        return self.write_request(tuple(buffers), offset_of(offset), dsync, False)

    def append(self, data, *, bint dsync=False):
        """Writes `data`, a buffer or a list of buffers, to the end of the file.

        The end is `append_offset`, which moves at once: later appends go after this one, and a
        failed write leaves a gap.  A file with O_APPEND (mode "a", not direct) appends at the
        kernel's end of file, one write at a time.
        Returns a future of the offset at which the data was written.
        """
        return self.write_request(data, 0, dsync, True)

    cdef object sync(self, int opcode):
        cdef FileRequest request
        self.check_open(False, False)
        request = self.queue.take(FILE_SYNC, self.file, self)
        request.iocb.aio_lio_opcode = opcode
        return self.queue.start(request)

    def fsync(self):
        """Brings the data and metadata of completed writes to the device.  See fsync(2)."""
        return self.sync(abi.IOCB_CMD_FSYNC)

    def datasync(self):
        """Brings the data, and the metadata needed to read it back, to the device.

        See fdatasync(2).
        """
        return self.sync(abi.IOCB_CMD_FDSYNC)

    def fallocate(self, offset, length, *, bint keep_size=False):
        """Allocates blocks, so that later writes there are overwrites.

        The size of the file grows to offset + length, unless `keep_size`; append_offset does not
        change.  Unwritten bytes read as zeroes.  Returns a future, with OSError (EOPNOTSUPP) where
        the file system cannot allocate.  See fallocate(2).
        """
        cdef int64_t start = offset_of(offset), size = PyNumber_Index(length), end
        if size < 1:
            raise ValueError(f"length must be at least 1, not {length}")
        end = end_of(start, size)
        self.check_open(False, True)
        return self._call(functools.partial(self._fallocate, start, size, keep_size, end),
                          exclusive=True)

    def _fallocate(self, int64_t start, int64_t size, bint keep_size, int64_t end):
        cdef int result, fd = self.file.enter()
        try:
            while True:
                with nogil:
                    result = fallocate(fd, FALLOC_FL_KEEP_SIZE if keep_size else 0, start, size)
                    if result < 0:
                        result = -errno
                if result == 0:
                    break
                if result != -EINTR:
                    raise self.file.os_error(-result)
        finally:
            self.file.leave(fd)
        if not keep_size and end > self.file.size:
            self.file.size = end

    def _truncate(self, size):
        cdef int fd
        count_up(&self.writes)
        fd = self.file.enter()
        try:
            os.ftruncate(fd, size)
        except OSError as error:
            raise self.file.os_error(error.errno) from None
        finally:
            self.file.leave(fd)
        self.file.size = self.file.append_at = size

    def _call(self, function, *, bint exclusive=False):
        """Calls `function` in a thread; returns a future of its result, which close() awaits."""
        cdef FileRequest request
        self.check_open(False, False)
        request = self.queue.take(FILE_CALL, self.file, self)
        request.call = function
        request.patient = self.file.streaming
        if exclusive:
            request.access = EXCLUSIVE
        return self.queue.start(request)

    # Common to all calls

    cdef int check_open(self, bint reading, bint writing) except -1:
        if self.file.closing is not None or self.file.fd < 0:
            raise ValueError("I/O operation on closed file")
        if reading and not self.file.can_read:
            raise io.UnsupportedOperation("not readable")
        if writing and not self.file.can_write:
            raise io.UnsupportedOperation("not writable")
        return 0

    # The end

    def _give_up(self):
        """Lets go of the descriptor, for a constructor that fails: its caller still has it."""
        call = self.file.take_descriptor()
        if call is not None and not self.file.closefd:
            call()  # the duplicate is our own

    def _detach(self):
        """Gives the descriptor away; returns its number, and whether closing it was up to this.

        Raises OSError (EBUSY) while requests are under way.
        """
        self.check_open(False, False)
        if self.file.pending > 0:
            raise OSError(EBUSY, "I/O is under way: wait for it before detach()", self.file.name)
        self._give_up()
        return self.file.number, self.file.closefd

    def _close(self):
        """Has later calls raise, and closes the file when its requests are over.

        Returns a future that all callers share: shield it.
        """
        return self.queue.close(self.file)

    def __del__(self):
        if self.file.fd < 0 or self.file.borrowed or self.queue is None:
            return
        if self.file.pending > 0:
            # Requests hold their file: a collector has the loop too, and came here first.
            self.queue.end_dropped()
        if self.file.closefd and not self.queue.is_forked_child():
            warn(f"unclosed file {self!r}", ResourceWarning, stacklevel=2, source=self)
        try:
            self.file.take_descriptor()()
        except OSError:
            pass
