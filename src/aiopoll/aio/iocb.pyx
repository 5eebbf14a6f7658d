"""A request of Linux AIO: as it is asked for, while it is in flight, and what became of it.

Facts.  io_submit copies an iocb before it returns, but io_cancel finds the request by the address
that was submitted (fs/aio.c, io_cancel).  Buffers belong to the kernel until the event.  The
result of an asynchronous POLL is the raw key of the wake-up: bits that were not asked for, and on
any socket a POLLPRI that need not be true.

Rule.  A Completion is the record of one submission: it owns the iocb that the kernel is given
and pins the buffers, and is released when its event has been reaped, never before.  POLL results
are masked with what was asked for plus ERR and HUP, and PRI is believed only after poll(2).

Why.  An Iocb can then be used again or dropped while in flight, and one submitted twice is two
requests.

Cost.  64 bytes more a request, and one poll(2) for each result with PRI.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.uio cimport iovec

from aiopoll.aio cimport abi

import os

cdef extern from "Python.h":
    int PyObject_AsFileDescriptor(object file) except -1

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents

    int c_poll "poll"(pollfd *fds, unsigned long nfds, int timeout_ms)

cdef enum:
    POLL_ALWAYS = 0x08 | 0x10  # POLLERR | POLLHUP: reported whether asked for or not
    POLL_PRI = 0x02
    POLL_MASK_MAX = 0xFFFF  # fs/aio.c, aio_poll: more is EINVAL

cdef dict OPCODE_NAMES = {
    abi.IOCB_CMD_PREAD: "PREAD",
    abi.IOCB_CMD_PWRITE: "PWRITE",
    abi.IOCB_CMD_FSYNC: "FSYNC",
    abi.IOCB_CMD_FDSYNC: "FDSYNC",
    abi.IOCB_CMD_POLL: "POLL",
    abi.IOCB_CMD_PREADV: "PREADV",
    abi.IOCB_CMD_PWRITEV: "PWRITEV",
}


cdef inline bint is_single(uint16_t opcode) noexcept:
    return opcode == abi.IOCB_CMD_PREAD or opcode == abi.IOCB_CMD_PWRITE


cdef inline bint is_vector(uint16_t opcode) noexcept:
    return opcode == abi.IOCB_CMD_PREADV or opcode == abi.IOCB_CMD_PWRITEV


cdef inline int buffer_flags(uint16_t opcode) noexcept:
    if opcode == abi.IOCB_CMD_PREAD or opcode == abi.IOCB_CMD_PREADV:
        return PyBUF_WRITABLE
    return PyBUF_SIMPLE


cdef int check_buffer(object buffer, uint16_t opcode) except -1:
    """Raises the TypeError or BufferError that submitting `buffer` would raise."""
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, buffer_flags(opcode))
    PyBuffer_Release(&view)
    return 0


cdef object checked_int(object value, str name, object low, object high):
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    value = int.__index__(value)  # the number itself: a subclass may compare as it likes
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value}")
    return value


@cython.final
cdef class Iocb:
    """One request, immutable; it may be submitted any number of times.

    The class methods `poll`, `pread`, `pwrite`, `preadv`, `pwritev`, `fsync` and `fdsync` check
    what they are given.  `Iocb(opcode, fd, …)` itself checks only what memory safety demands and
    lets the kernel judge the rest, as the fields of a struct iocb would.

    opcode: an IOCB_CMD_* number; aiopoll.libaio has them as IO_CMD_*.
    fd: the file descriptor.
    buf: for PREAD and PWRITE a bytes-like object, for PREADV and PWRITEV a sequence of them, for
        all else the number aio_buf (POLL: the events).
    offset: aio_offset, in bytes.
    nbytes: aio_nbytes; set from the buffers where there are any.
    rw_flags: RWF_* flags.
    ioprio: I/O priority as ioprio_set(2) takes it, or None for the process's own.
    resfd: an eventfd to be signalled when the request completes, or None.
    data: any object; comes back as IoEvent.data.
    Source: io_submit(2); include/uapi/linux/aio_abi.h.
    """

    def __cinit__(self, opcode, fd, buf=None, *, offset=0, nbytes=0, rw_flags=0, ioprio=None,
                  resfd=None, data=None):
        cdef abi.iocb *prototype = &self.prototype
        memset(prototype, 0, sizeof(abi.iocb))
        prototype.aio_lio_opcode = checked_int(opcode, "opcode", 0, 0xFFFF)
        prototype.aio_fildes = <uint32_t><int>checked_int(fd, "fd", -2**31, 2**31 - 1)
        prototype.aio_offset = checked_int(offset, "offset", -2**63, 2**63 - 1)
        prototype.aio_rw_flags = checked_int(rw_flags, "rw_flags", 0, 2**32 - 1)
        if ioprio is not None:
            prototype.aio_reqprio = checked_int(ioprio, "ioprio", -2**15, 2**15 - 1)
            prototype.aio_flags |= abi.IOCB_FLAG_IOPRIO
        if resfd is not None:
            prototype.aio_resfd = <uint32_t><int>checked_int(resfd, "resfd", -2**31, 2**31 - 1)
            prototype.aio_flags |= abi.IOCB_FLAG_RESFD
        if is_single(prototype.aio_lio_opcode):
            check_buffer(buf, prototype.aio_lio_opcode)
            self.buffer = buf
        elif is_vector(prototype.aio_lio_opcode):
            self.buffer = tuple(buf)
            for part in self.buffer:
                check_buffer(part, prototype.aio_lio_opcode)
        else:
            prototype.aio_buf = checked_int(0 if buf is None else buf, "buf", 0, 2**64 - 1)
            prototype.aio_nbytes = checked_int(nbytes, "nbytes", 0, 2**64 - 1)
        self.data = data
        self.last_index = -1

    @staticmethod
    def poll(fd, events, *, data=None, resfd=None):
        """Waits once for `events` (select.POLL*) on `fd`; ERR and HUP are always waited for.

        The event's res is the mask of what is ready; 0 if the request was cancelled, or if what
        woke it was not asked for or had gone: submit again.
        Raises ValueError for a mask of more than 16 bits.
        """
        return Iocb(abi.IOCB_CMD_POLL, PyObject_AsFileDescriptor(fd),
                    checked_int(events, "events", 0, POLL_MASK_MAX), resfd=resfd, data=data)

    @staticmethod
    def pread(fd, buffer, offset=0, *, rw_flags=0, ioprio=None, data=None, resfd=None):
        """Reads into the writable `buffer` from `offset`; res is the number of bytes."""
        return Iocb(abi.IOCB_CMD_PREAD, PyObject_AsFileDescriptor(fd), buffer,
                    offset=checked_int(offset, "offset", 0, 2**63 - 1), rw_flags=rw_flags,
                    ioprio=ioprio, resfd=resfd, data=data)

    @staticmethod
    def pwrite(fd, buffer, offset=0, *, rw_flags=0, ioprio=None, data=None, resfd=None):
        """Writes `buffer` at `offset`; res is the number of bytes."""
        return Iocb(abi.IOCB_CMD_PWRITE, PyObject_AsFileDescriptor(fd), buffer,
                    offset=checked_int(offset, "offset", 0, 2**63 - 1), rw_flags=rw_flags,
                    ioprio=ioprio, resfd=resfd, data=data)

    @staticmethod
    def preadv(fd, buffers, offset=0, *, rw_flags=0, ioprio=None, data=None, resfd=None):
        """Reads into the writable `buffers`, one after the other, from `offset`."""
        return Iocb(abi.IOCB_CMD_PREADV, PyObject_AsFileDescriptor(fd), buffers,
                    offset=checked_int(offset, "offset", 0, 2**63 - 1), rw_flags=rw_flags,
                    ioprio=ioprio, resfd=resfd, data=data)

    @staticmethod
    def pwritev(fd, buffers, offset=0, *, rw_flags=0, ioprio=None, data=None, resfd=None):
        """Writes the `buffers`, one after the other, at `offset`."""
        return Iocb(abi.IOCB_CMD_PWRITEV, PyObject_AsFileDescriptor(fd), buffers,
                    offset=checked_int(offset, "offset", 0, 2**63 - 1), rw_flags=rw_flags,
                    ioprio=ioprio, resfd=resfd, data=data)

    @staticmethod
    def fsync(fd, *, data=None, resfd=None):
        """Flushes data and metadata of `fd` to the device; res is 0."""
        return Iocb(abi.IOCB_CMD_FSYNC, PyObject_AsFileDescriptor(fd), resfd=resfd, data=data)

    @staticmethod
    def fdsync(fd, *, data=None, resfd=None):
        """Flushes the data of `fd`, and the metadata needed to read it back; res is 0."""
        return Iocb(abi.IOCB_CMD_FDSYNC, PyObject_AsFileDescriptor(fd), resfd=resfd, data=data)

    @property
    def opcode(self):
        """aio_lio_opcode, an IOCB_CMD_* number."""
        return self.prototype.aio_lio_opcode

    @property
    def fd(self):
        """aio_fildes."""
        return <int>self.prototype.aio_fildes

    @property
    def buf(self):
        """The buffer, the tuple of buffers, or the number aio_buf (for POLL the events)."""
        return self.prototype.aio_buf if self.buffer is None else self.buffer

    @property
    def offset(self):
        """aio_offset, in bytes."""
        return self.prototype.aio_offset

    @property
    def rw_flags(self):
        """aio_rw_flags, RWF_* flags."""
        return self.prototype.aio_rw_flags

    @property
    def ioprio(self):
        """aio_reqprio, or None where the request has none of its own."""
        if self.prototype.aio_flags & abi.IOCB_FLAG_IOPRIO:
            return self.prototype.aio_reqprio
        return None

    @property
    def resfd(self):
        """aio_resfd, or None."""
        if self.prototype.aio_flags & abi.IOCB_FLAG_RESFD:
            return <int>self.prototype.aio_resfd
        return None

    def __repr__(self):
        opcode = self.prototype.aio_lio_opcode
        parts = [OPCODE_NAMES.get(opcode, f"opcode {opcode}"), f"fd={self.fd}"]
        if opcode == abi.IOCB_CMD_POLL:
            parts.append(f"events=0x{self.prototype.aio_buf:x}")
        elif self.buffer is not None:
            parts.append(f"offset={self.offset}")
        return f"<Iocb {' '.join(parts)}>"


@cython.final
@cython.auto_pickle(False)
@cython.freelist(256)
cdef class IoEvent:
    """The result of one request.

    data: the `data` of its Iocb.
    obj: the Iocb.
    res: the result, or -errno.
    res2: 0 for all that the kernel has today.
    Source: io_getevents(2); struct io_event in include/uapi/linux/aio_abi.h.
    """

    def __init__(self):
        raise TypeError("IoEvents come from Context.reap()")

    def result(self):
        """`res`; raises the OSError that a negative one stands for."""
        if self.res < 0:
            raise OSError(-self.res, f"{self.obj!r}: {os.strerror(-self.res)}")
        return self.res

    def __repr__(self):
        return f"<IoEvent {self.obj!r} res={self.res} res2={self.res2}>"


@cython.final
@cython.no_gc_clear
cdef class Completion:
    """The record of one submission; its address is what io_cancel knows the request by.

    A Context keeps its Completions as long as it lives and uses them again: `generation` counts
    the uses.  The garbage collector never clears one: it would drop the buffer and leave it
    exported.  The Context's list of them ends every cycle.
    """

    def __cinit__(self):
        self.views = NULL
        self.vector = NULL
        self.nr_views = 0

    cdef int start(self, Iocb request) except -1:
        cdef uint16_t opcode = request.prototype.aio_lio_opcode
        self.iocb = request.prototype
        self.iocb.aio_data = <uint64_t>self.generation << 32 | <uint64_t>self.index
        self.cancelled = False
        self.data = request.data
        self.request = request
        if request.buffer is not None:
            if is_single(opcode):
                self.views = &self.single_view
                self.pin(request.buffer)
                self.iocb.aio_buf = <uint64_t>self.single_view.buf
                self.iocb.aio_nbytes = self.single_view.len
            else:
                self.pin_vector(request.buffer)
        return 0

    cdef int pin(self, object buffer) except -1:
        PyObject_GetBuffer(buffer, &self.views[self.nr_views],
                           buffer_flags(self.iocb.aio_lio_opcode))
        self.nr_views += 1
        return 0

    cdef int pin_vector(self, tuple buffers) except -1:
        cdef Py_ssize_t nr = len(buffers), i
        # One more than needed, for malloc(0) may return NULL.
        self.vector = <iovec *>PyMem_Malloc((nr + 1) * sizeof(iovec))
        if self.vector == NULL:
            raise MemoryError
        self.views = <Py_buffer *>PyMem_Malloc((nr + 1) * sizeof(Py_buffer))
        if self.views == NULL:
            raise MemoryError
        for i in range(nr):
            self.pin(buffers[i])
            self.vector[i].iov_base = self.views[i].buf
            self.vector[i].iov_len = self.views[i].len
        self.iocb.aio_buf = <uint64_t>self.vector
        self.iocb.aio_nbytes = nr
        return 0

    cdef void finish(self) noexcept:
        """Releases the request and its buffers: its event has been reaped."""
        while self.nr_views > 0:
            self.nr_views -= 1
            PyBuffer_Release(&self.views[self.nr_views])
        if self.vector != NULL:
            PyMem_Free(self.vector)
            PyMem_Free(self.views)
            self.vector = NULL
        self.views = NULL
        self.request = None
        self.data = None
        self.generation += 1

    def __dealloc__(self):
        self.finish()


cdef int64_t masked_poll_result(Completion completion, int64_t res) noexcept:
    """Of a POLL's raw result, what was asked for; PRI only if poll(2) confirms it."""
    cdef pollfd check
    cdef int64_t asked = completion.iocb.aio_buf
    res &= asked | POLL_ALWAYS
    if res & POLL_PRI:
        check.fd = <int>completion.iocb.aio_fildes
        check.events = POLL_PRI
        check.revents = 0
        if c_poll(&check, 1, 0) != 1 or not check.revents & POLL_PRI:
            res &= ~<int64_t>POLL_PRI
    return res
