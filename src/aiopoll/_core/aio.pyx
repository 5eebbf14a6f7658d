"""Linux AIO: requests, their events, and the context that carries them.

Facts.  io_submit copies an iocb before it returns, but io_cancel finds the request by the
address that was submitted (fs/aio.c, io_cancel).  It stops at the first bad request, and says
why only if that was the first.  A request holds a slot until its event is reaped.  The result of
an asynchronous POLL is the raw key of the wake-up: bits nobody asked for, and on any socket a
POLLPRI that need not be true.

Rule.  A Completion is the record of one submission: it owns the iocb that the kernel is given
and pins the buffers, and is released when its event has been reaped, never before.  aio_data
carries the record's index and generation, so that an event is looked up and checked, not
dereferenced.  POLL results are masked with what was asked for plus ERR and HUP, and PRI is
believed only after poll(2).

Why.  An Iocb can then be used again or dropped while in flight, and one submitted twice is two
requests.  A batch that stops short is continued with a second call, which either goes on or
tells the error and whose it is.

Cost.  64 bytes more a request, and one poll(2) for each result with PRI.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.errno cimport EINPROGRESS, EINTR
from libc.stdint cimport int16_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.time cimport timespec
from posix.uio cimport iovec

from aiopoll._core cimport abi

import math
import os
import select
import time
import warnings

from aiopoll._core.errors import SubmitError, cancel_error, setup_error, submit_error
from aiopoll._core.statistics import ContextStatistics

cdef extern from "Python.h":
    int PyObject_AsFileDescriptor(object file) except -1
    unsigned long PyThread_get_thread_ident() nogil

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents

    int c_poll "poll"(pollfd *fds, unsigned long nfds, int timeout_ms)

cdef extern from "mm_generation.h":
    void aio_mm_page_map()
    uint64_t aio_mm_generation()

aio_mm_page_map()

PREAD = abi.IOCB_CMD_PREAD
PWRITE = abi.IOCB_CMD_PWRITE
FSYNC = abi.IOCB_CMD_FSYNC
FDSYNC = abi.IOCB_CMD_FDSYNC
POLL = abi.IOCB_CMD_POLL
PREADV = abi.IOCB_CMD_PREADV
PWRITEV = abi.IOCB_CMD_PWRITEV

RWF_HIPRI = abi.RWF_HIPRI
RWF_DSYNC = abi.RWF_DSYNC
RWF_SYNC = abi.RWF_SYNC
RWF_NOWAIT = abi.RWF_NOWAIT
RWF_APPEND = abi.RWF_APPEND

cdef enum:
    POLL_ALWAYS = 0x08 | 0x10  # POLLERR | POLLHUP: reported whether asked for or not
    POLL_PRI = 0x02
    POLL_MASK_MAX = 0xFFFF  # fs/aio.c, aio_poll: more is EINVAL
    NR_EVENTS_MAX = 0x400000  # fs/aio.c, ioctx_alloc: 0x10000000 bytes of events, and twice as many

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

    opcode: IOCB_CMD_* number.
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
    """What became of one request.

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
cdef class Completion:
    """The record of one submission; its address is what io_cancel knows the request by.

    A Context keeps its Completions as long as it lives and uses them again: `generation` counts
    the uses.
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
        # One more than needed, for malloc(0) may answer NULL.
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
        """Lets go of the request and its buffers: its event has been reaped."""
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


cdef inline bint in_use(Completion completion) noexcept:
    return completion.request is not None


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


cdef uint64_t kernel_sigset(object sigmask) except? 0:
    """The kernel's 64-bit sigset_t, with signal n in bit n-1; 0 for None."""
    cdef uint64_t mask = 0
    if sigmask is not None:
        for signum in sigmask:
            mask |= <uint64_t>1 << (<int>checked_int(signum, "signal number", 1, 64) - 1)
    return mask


cdef object checked_timeout(object timeout):
    """`timeout` in nanoseconds, or None for no limit."""
    if timeout is None:
        return None
    if isinstance(timeout, str) or not hasattr(timeout, "__float__"):
        raise TypeError(f"timeout must be seconds or None, not {type(timeout).__name__}")
    seconds = float(timeout)
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"timeout must be None or not negative, not {timeout!r}")
    # About 292 years; the kernel's ktime ends there too.
    return None if seconds > 9e9 else math.ceil(seconds * 1e9)


@cython.final
cdef class Context:
    """A submit and complete queue of Linux AIO: an io_context.

    nr_events: how many requests may be in flight; so many are taken of the machine's
        fs.aio-max-nr (65,536 by default) until close(). That many are guaranteed; the kernel
        happens to have room for about twice as many.
    user_ring: True reaps from the mapped ring where it is usable, False always by system call,
        None does as the environment variable AIOPOLL_USER_RING says (0: False), or True.

    A Context belongs to the thread and the process that made it: another thread gets
    RuntimeError (adopt() hands it over), and so does a child after fork.  close() may be called
    from any thread.  All methods raise ValueError once it is closed.

    Raises OSError, with the sysctl or the seccomp profile to change, where the kernel gives no
    context.  Source: io_setup(2).
    """

    def __cinit__(self):
        self.completions = []
        self.first_free = -1

    def __init__(self, nr_events=128, *, user_ring=None):
        cdef unsigned int nr = checked_int(nr_events, "nr_events", 1, NR_EVENTS_MAX)
        cdef abi.aio_context_t ctx = 0
        cdef long result
        if user_ring is None:
            user_ring = os.environ.get("AIOPOLL_USER_RING") != "0"
        cdef bint want_ring = user_ring
        if self.nr_events != 0:
            raise RuntimeError("a Context is initialised once")
        self.nr_events = nr  # marks it: no other thread may come in while io_setup runs
        try:
            while True:
                with nogil:
                    result = abi.aio_sys_setup(nr, &ctx)
                if result != -EINTR:
                    break
                PyErr_CheckSignals()
            if result < 0:
                raise setup_error(-result, nr)
        except BaseException:
            self.nr_events = 0
            raise
        self.mm_generation = aio_mm_generation()
        self.owner = PyThread_get_thread_ident()
        self.ring = abi.aio_ring_of(ctx) if want_ring else NULL
        self.ring_nr = self.ring.nr if self.ring != NULL else 0
        self.ctx = ctx

    cdef int enter(self) except -1:
        """Raises unless this thread may use the context now."""
        if self.ctx == 0:
            raise ValueError("this Context is closed")
        if self.mm_generation != aio_mm_generation():
            raise RuntimeError(
                "this Context belongs to the parent process: after fork() make a new one")
        if self.busy:
            raise RuntimeError("this Context is in use by another call that has not returned")
        if self.owner != PyThread_get_thread_ident():
            raise RuntimeError(
                "this Context belongs to another thread: call adopt() to take it over")
        return 0

    cdef Completion take_completion(self):
        cdef Completion completion
        if self.first_free >= 0:
            completion = self.completions[self.first_free]
            self.first_free = completion.next_free
        else:
            completion = Completion.__new__(Completion)
            completion.index = len(self.completions)
            self.completions.append(completion)
        self.in_flight += 1
        return completion

    cdef void release(self, Completion completion) noexcept:
        completion.finish()
        completion.next_free = self.first_free
        self.first_free = completion.index
        self.in_flight -= 1

    def submit(self, iocbs):
        """Submits the requests in one io_submit, and answers how many: all of them.

        Raises SubmitError, an OSError, if the kernel refuses one: its `index` says which, the
        requests before it are in flight, those after it were not tried.  TypeError and
        BufferError are raised before anything is submitted.

        A second io_submit is made only where the first one stopped short, to learn why.
        Reads and writes of files that are not opened O_DIRECT happen within the call, and may
        block in it (the GIL is released).  Source: io_submit(2).
        """
        cdef list started = []
        cdef Py_ssize_t nr, taken = 0, i
        cdef Completion completion
        cdef Iocb request
        cdef abi.iocb **pointers
        cdef long result = 0
        if isinstance(iocbs, Iocb):
            raise TypeError("submit() takes a sequence of Iocb: write submit([iocb])")
        batch = list(iocbs)
        for item in batch:
            if not isinstance(item, Iocb):
                raise TypeError(f"submit() takes Iocb objects, not {type(item).__name__}")
        self.enter()
        nr = len(batch)
        if nr == 0:
            return 0
        pointers = <abi.iocb **>PyMem_Malloc(nr * sizeof(abi.iocb *))
        if pointers == NULL:
            raise MemoryError
        self.busy = True
        try:
            for i in range(nr):
                completion = self.take_completion()
                started.append(completion)
                completion.start(batch[i])
                pointers[i] = &completion.iocb
            while taken < nr:
                with nogil:
                    result = abi.aio_sys_submit(self.ctx, nr - taken, pointers + taken)
                self.submit_calls += 1
                if result <= 0:
                    break
                taken += result
        finally:
            PyMem_Free(pointers)
            # Still busy: releasing a buffer may run Python code, which must not come in here.
            for i in range(taken, len(started)):
                self.release(started[i])
            for i in range(taken):
                request = batch[i]
                completion = started[i]
                request.last_index = completion.index
            self.submitted += taken
            self.busy = False
        if taken < nr:
            self.refused += 1
            request = batch[taken]
            raise submit_error(-result, request,
                               request.prototype.aio_lio_opcode == abi.IOCB_CMD_POLL, taken, nr)
        return taken

    def reap(self, min_nr=1, max_nr=None, timeout=None, sigmask=None):
        """Waits for events and answers them, oldest first, as a list of IoEvent.

        min_nr: return when so many are there; 0 does not wait.
        max_nr: return no more than this; None for all that are there.
        timeout: seconds, or None to wait as long as it takes.  When it has passed, what is there
            is returned, be it nothing.
        sigmask: the signals to block during the wait and only then (io_pgetevents); None leaves
            the thread's mask alone.

        Interruption by a signal runs Python's handlers and goes on waiting, as PEP 475 has it;
        with a `sigmask` it raises InterruptedError after the handlers, for that is what one
        waits for then.  Events that are in the ring are taken without a system call.

        Raises ValueError if the wait could never end: no timeout, no sigmask, and fewer
        requests in flight than `min_nr`.  Source: io_getevents(2), io_pgetevents(2).
        """
        # The arguments first: they may run Python code, which may use this Context.
        cdef Py_ssize_t least = checked_int(min_nr, "min_nr", 0, NR_EVENTS_MAX)
        cdef Py_ssize_t most = 2**62
        cdef uint64_t mask = kernel_sigset(sigmask)
        timeout_ns = checked_timeout(timeout)
        if max_nr is not None:
            most = checked_int(max_nr, "max_nr", 1, 2**62)
            if most < least:
                raise ValueError(f"max_nr={max_nr} is less than min_nr={min_nr}")
        self.enter()
        most = min(most, max(1, least, self.in_flight))
        if timeout_ns is None and sigmask is None and least > self.in_flight:
            raise ValueError(
                f"reap(min_nr={least}) would wait for ever: {self.in_flight} requests in flight")
        return self.take(least, most, timeout_ns, NULL if sigmask is None else &mask, True)

    def getevents(self, min_nr, nr, timeout_ns=None, sigmask=None):
        """Waits as io_getevents does (with a `sigmask` as io_pgetevents does), once.

        Unlike reap() it raises InterruptedError after any signal's handlers, waits for events
        that no request in flight can bring, and takes its timeout in nanoseconds.  reap() is
        for programs; this is for code that must show the kernel's own behaviour, as
        aiopoll.libaio does.

        Raises ValueError unless 0 <= min_nr <= nr.  Source: io_getevents(2).
        """
        cdef Py_ssize_t most = checked_int(nr, "nr", 0, NR_EVENTS_MAX)
        cdef Py_ssize_t least = checked_int(min_nr, "min_nr", 0, most)
        cdef uint64_t mask = kernel_sigset(sigmask)
        if timeout_ns is not None:
            timeout_ns = checked_int(timeout_ns, "timeout_ns", 0, 2**63 - 1)
        self.enter()
        return self.take(least, most, timeout_ns, NULL if sigmask is None else &mask, False)

    cdef list take(self, Py_ssize_t least, Py_ssize_t most, object timeout_ns,
                   const uint64_t *sigmask, bint restart):
        """The events, from the ring where it has enough of them, else by system call."""
        cdef long result
        self.reserve_events(most)
        if self.ring != NULL and sigmask == NULL:
            if least == 0 or timeout_ns == 0 or abi.aio_ring_pending(self.ring) >= least:
                result = abi.aio_ring_reap(self.ring, self.events, most)
                if result > 0:
                    self.ring_reaps += 1
                return self.collect(result)
        return self.collect(self.wait(least, most, timeout_ns, sigmask, restart))

    cdef long wait(self, long min_nr, long nr, object timeout_ns, const uint64_t *sigmask,
                   bint restart) except? -1:
        """io_getevents or, with a sigmask, io_pgetevents; answers the number of events.

        `restart`: whether to go on waiting after a signal; never with a `sigmask`.
        """
        cdef timespec timeout
        cdef timespec *timeout_pointer = NULL
        cdef bint with_mask = sigmask != NULL
        cdef int64_t remaining_ns
        cdef long result
        name = "io_pgetevents" if with_mask else "io_getevents"
        deadline_ns = None if timeout_ns is None else time.monotonic_ns() + timeout_ns
        while True:
            if deadline_ns is not None:
                remaining_ns = max(0, deadline_ns - time.monotonic_ns()) if timeout_ns else 0
                timeout.tv_sec = remaining_ns // 1_000_000_000
                timeout.tv_nsec = remaining_ns % 1_000_000_000
                timeout_pointer = &timeout
            self.busy = True
            with nogil:
                if with_mask:
                    result = abi.aio_sys_pgetevents(self.ctx, min_nr, nr, self.events,
                                                    timeout_pointer, sigmask)
                else:
                    result = abi.aio_sys_getevents(self.ctx, min_nr, nr, self.events,
                                                   timeout_pointer)
            self.busy = False
            self.getevents_calls += 1
            if result >= 0:
                return result
            if result != -EINTR:
                raise OSError(-result, f"{name}: {os.strerror(-result)}")
            PyErr_CheckSignals()
            self.enter()
            if with_mask or not restart:
                raise InterruptedError(EINTR, f"{name}: interrupted by a signal")
            if deadline_ns is None and min_nr > self.in_flight:
                return 0  # a signal handler reaped what was waited for
            self.reserve_events(nr)

    cdef int reserve_events(self, Py_ssize_t nr) except -1:
        if nr > self.events_room:
            events = <abi.io_event *>PyMem_Realloc(self.events, nr * sizeof(abi.io_event))
            if events == NULL:
                raise MemoryError
            self.events = events
            self.events_room = nr
        return 0

    cdef list collect(self, Py_ssize_t count):
        """Turns the first `count` of self.events into IoEvents and releases their records."""
        cdef list result = []
        cdef abi.io_event *raw
        cdef Completion completion
        cdef IoEvent event
        cdef uint64_t index
        cdef Py_ssize_t i
        # Nothing that runs meanwhile (a finalizer) may reap into the same array.
        self.busy = True
        try:
            for i in range(count):
                raw = &self.events[i]
                index = raw.data & 0xFFFFFFFF
                if index >= <uint64_t>len(self.completions):
                    continue
                completion = self.completions[index]
                if completion.generation != raw.data >> 32 or not in_use(completion):
                    continue
                event = IoEvent.__new__(IoEvent)
                event.data = completion.data
                event.obj = completion.request
                event.res = raw.res
                event.res2 = raw.res2
                if raw.res > 0 and completion.iocb.aio_lio_opcode == abi.IOCB_CMD_POLL:
                    event.res = masked_poll_result(completion, raw.res)
                self.release(completion)
                self.completed += 1
                result.append(event)
        finally:
            self.busy = False
        return result

    cdef Completion find(self, Iocb request):
        """The request's record: one not cancelled yet if there is one, else any, else None."""
        cdef Completion completion, cancelled = None
        if 0 <= request.last_index < len(self.completions):
            completion = self.completions[request.last_index]
            if completion.request is request and not completion.cancelled:
                return completion
        for completion in self.completions:
            if completion.request is request:
                if not completion.cancelled:
                    return completion
                cancelled = completion
        return cancelled

    def cancel(self, iocb):
        """Asks the kernel to cancel a POLL that is in flight.

        The request still has exactly one event, with res 0, which comes through reap(); until
        then it holds its slot.  That it is there at once is likely, not guaranteed.

        Raises ValueError if `iocb` is not in flight here, OSError (EINVAL) if it cannot be
        cancelled: it has completed, was cancelled before, or is a read or write.  Its event
        comes all the same.  Source: io_cancel(2), which for a POLL answers EINPROGRESS.
        """
        cdef Completion completion
        cdef long result
        if not isinstance(iocb, Iocb):
            raise TypeError(f"cancel() takes an Iocb, not {type(iocb).__name__}")
        self.enter()
        completion = self.find(iocb)
        if completion is None:
            raise ValueError(f"{iocb!r} is not in flight in this Context")
        result = abi.aio_sys_cancel(self.ctx, &completion.iocb)
        if result != -EINPROGRESS and result != 0:
            raise cancel_error(-result, iocb, completion.cancelled)
        completion.cancelled = True
        self.cancelled += 1

    def adopt(self):
        """Makes the calling thread the owner.  Raises RuntimeError while a call is running."""
        self.owner, previous = PyThread_get_thread_ident(), self.owner
        try:
            self.enter()
        except BaseException:
            self.owner = previous
            raise

    def close(self):
        """Cancels the polls, waits for reads and writes, and gives the slots back.

        Events not reaped are discarded.  Takes some tens of milliseconds in the kernel, with the
        GIL released, and longer only while a device works on a read or write.  Closing again
        does nothing; in a child after fork only the memory is let go.
        Raises RuntimeError while another thread is inside a call.  Source: io_destroy(2).
        """
        cdef abi.aio_context_t ctx = self.ctx
        cdef long result = 0
        if ctx == 0:
            return
        if self.mm_generation == aio_mm_generation():
            if self.busy:
                raise RuntimeError("this Context is in use by another call that has not returned")
            self.ctx = 0
            self.ring = NULL
            with nogil:
                result = abi.aio_sys_destroy(ctx)
        self.ctx = 0
        self.ring = NULL
        self.completions.clear()
        self.first_free = -1
        self.in_flight = 0
        if result < 0:
            raise OSError(-result, f"io_destroy: {os.strerror(-result)}")

    @property
    def closed(self):
        """Whether close() was called."""
        return self.ctx == 0

    @property
    def user_ring(self):
        """Whether events are reaped from the mapped ring, without a system call."""
        return self.ring != NULL

    def events_pending(self):
        """Whether reap(0) would answer something, by a look at the ring: no system call.

        False where the ring is not usable (`user_ring`).
        """
        self.enter()
        return self.ring != NULL and abi.aio_ring_pending(self.ring) > 0

    def statistics(self):
        """The counters, as a ContextStatistics."""
        return ContextStatistics(
            nr_events=self.nr_events,
            ring_nr=self.ring_nr,
            in_flight=self.in_flight,
            submitted=self.submitted,
            refused=self.refused,
            completed=self.completed,
            cancelled=self.cancelled,
            submit_calls=self.submit_calls,
            getevents_calls=self.getevents_calls,
            ring_reaps=self.ring_reaps,
        )

    def __enter__(self):
        self.enter()
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __repr__(self):
        if self.ctx == 0:
            return "<Context closed>"
        return f"<Context nr_events={self.nr_events} in_flight={self.in_flight}>"

    def __del__(self):
        if self.ctx != 0 and self.mm_generation == aio_mm_generation():
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self)
            finally:
                self.close()

    def __dealloc__(self):
        PyMem_Free(self.events)
