"""libaio's programming interface: its names, its arguments and its -errno results.

Source: libaio 0.3.113, libaio.h and the manual pages io(3), io_submit(3), io_getevents(3) and
their neighbours.  A C program can be translated line by line:

    ctx = io_context_t()
    assert io_setup(8, ctx) == 0
    cb = iocb()
    io_prep_poll(cb, fd, select.POLLIN)
    assert io_submit(ctx, 1, [cb]) == 1
    events = [io_event() for _ in range(8)]
    n = io_getevents(ctx, 1, 8, events, None)
    assert io_destroy(ctx) == 0

Functions return what libaio's return: a count or 0, or -errno; none raises an errno.  None stands
for NULL, and returns -EFAULT or -EINVAL where the kernel does so.

The differences in Python:

- `io_context_t` is a holder: the same object is passed where C takes the context and where it
  takes its address.  A new one is NULL; after io_destroy it is a stale handle (-EINVAL).
- Buffers are bytes-like objects, and an iovec array is a sequence of them.  `events` is a sequence
  of io_event objects that are filled in, and `sigmask` is a set of signal numbers.
- Overruns in C are exceptions here.  A count larger than its object raises ValueError, a wrong
  type TypeError, and a read into memory that Python knows to be constant BufferError.
- An iocb and its buffers are kept alive until the event has been delivered.
- Results of IO_CMD_POLL are masked with the requested events plus POLLERR and POLLHUP, and
  POLLPRI is checked: the kernel passes on the raw key of the wake-up.
- Signal handlers are Python's: they have run when -EINTR is returned.  An exception of theirs is
  raised instead.
- One thread at a time may be inside a context; a second gets RuntimeError.
- Where the ring can be read, its events are taken without a system call, as Context.reap does;
  AIOPOLL_USER_RING=0 in the environment turns that off.
"""

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from aiopoll.aio.context import Context
from aiopoll.aio.errors import SubmitError
from aiopoll.aio.iocb import Iocb

# fmt: off
__all__ = [
    "IO_CMD_FDSYNC", "IO_CMD_FSYNC", "IO_CMD_NOOP", "IO_CMD_POLL", "IO_CMD_PREAD",
    "IO_CMD_PREADV", "IO_CMD_PWRITE", "IO_CMD_PWRITEV", "io_callback_t", "io_cancel",
    "io_context_t", "io_destroy", "io_event", "io_fdsync", "io_fsync", "io_getevents",
    "io_pgetevents", "io_poll", "io_prep_fdsync", "io_prep_fsync", "io_prep_poll",
    "io_prep_pread", "io_prep_preadv", "io_prep_preadv2", "io_prep_pwrite", "io_prep_pwritev",
    "io_prep_pwritev2", "io_queue_init", "io_queue_release", "io_queue_run", "io_queue_wait",
    "io_set_callback", "io_set_eventfd", "io_setup", "io_submit", "iocb", "timespec",
]
# fmt: on

IO_CMD_PREAD = 0
IO_CMD_PWRITE = 1
IO_CMD_FSYNC = 2
IO_CMD_FDSYNC = 3
IO_CMD_POLL = 5
IO_CMD_NOOP = 6
IO_CMD_PREADV = 7
IO_CMD_PWRITEV = 8

_SINGLE = (IO_CMD_PREAD, IO_CMD_PWRITE)
_VECTOR = (IO_CMD_PREADV, IO_CMD_PWRITEV)
_IOCB_FLAG_RESFD = 1 << 0
_IOCB_FLAG_IOPRIO = 1 << 1

_Item = TypeVar("_Item")
_Iovec: TypeAlias = Sequence[Any] | None


class io_context_t:
    """A context and the variable that holds it: NULL until io_setup fills it in.

    context: the aiopoll.Context within, or None for NULL.
    bool(): True if it is not NULL, be it live or stale.
    """

    __slots__ = ("_in_flight", "_pid", "context")

    def __init__(self) -> None:
        self.context: Context | None = None
        self._pid = 0
        # By iocb, because io_cancel names them so; oldest first, as the kernel searches.
        self._in_flight: dict[iocb, list[Iocb]] = {}

    def __bool__(self) -> bool:
        return self.context is not None

    def __repr__(self) -> str:
        return f"<io_context_t {self.context!r}>" if self else "<io_context_t NULL>"


@dataclass(slots=True, eq=False)
class _iocb_union:
    """The union `u` of an iocb.

    c, v, poll: its members io_iocb_common, io_iocb_vector and io_iocb_poll, which share their
        memory, so that each of them is this object.
    buf, vec, events: one field: a buffer, a sequence of buffers, a mask.
    nbytes, nr: one field: bytes to transfer, or number of buffers.
    offset: in bytes.
    flags, resfd: IOCB_FLAG_* and the eventfd to signal (io_set_eventfd).
    """

    buf: Any = None
    nbytes: int = 0
    offset: int = 0
    flags: int = 0
    resfd: int = 0

    @property
    def c(self) -> "_iocb_union":
        return self

    @property
    def v(self) -> "_iocb_union":
        return self

    @property
    def poll(self) -> "_iocb_union":
        return self

    @property
    def vec(self) -> Any:
        return self.buf

    @vec.setter
    def vec(self, value: Any) -> None:
        self.buf = value

    @property
    def nr(self) -> int:
        return self.nbytes

    @nr.setter
    def nr(self, value: int) -> None:
        self.nbytes = value

    @property
    def events(self) -> Any:
        return self.buf

    @events.setter
    def events(self, value: Any) -> None:
        self.buf = value


class iocb:
    """One request, as libaio.h declares it: written by io_prep_*, read by io_submit.

    io_submit copies it: it may be changed, used again or dropped once that returns.  io_cancel
    and io_event.obj know it by its identity.

    data: any object, passed to io_event.data; for io_queue_run the callback.
    key: set to 0 by io_submit; io_cancel demands 0.
    aio_lio_opcode: IO_CMD_*.
    aio_reqprio: I/O priority, if u.c.flags has IOCB_FLAG_IOPRIO (2).
    aio_fildes: the file descriptor.
    aio_rw_flags: os.RWF_* flags.
    u: the fields that depend on the operation; u.c, u.v and u.poll are its views.
    """

    __slots__ = (
        "__weakref__",
        "aio_fildes",
        "aio_lio_opcode",
        "aio_reqprio",
        "aio_rw_flags",
        "data",
        "key",
        "u",
    )

    def __init__(self) -> None:
        self._zero()

    def _zero(self) -> None:
        self.data: Any = None
        self.key: int = 0
        self.aio_rw_flags: int = 0
        self.aio_lio_opcode: int = 0
        self.aio_reqprio: int = 0
        self.aio_fildes: int = 0
        self.u: _iocb_union = _iocb_union()

    def _prep(
        self, opcode: int, fd: int, buf: Any = None, nbytes: int = 0, offset: int = 0
    ) -> None:
        self._zero()
        self.aio_lio_opcode = opcode
        self.aio_fildes = fd
        self.u.buf = buf
        self.u.nbytes = nbytes
        self.u.offset = offset

    def _request(self) -> Iocb | int:
        """Returns the Iocb to submit, or the -errno that the kernel would return for it."""
        u = self.u
        buf = u.buf
        nbytes = 0
        if self.aio_lio_opcode in _SINGLE or self.aio_lio_opcode in _VECTOR:
            if u.nbytes < 0:
                return -errno.EINVAL
            if buf is None:
                if u.nbytes > 0:
                    return -errno.EFAULT
                buf = bytearray()
            elif self.aio_lio_opcode in _SINGLE:
                buf = _first_bytes(buf, u.nbytes)
            else:
                buf = _first(buf, u.nbytes, "iovcnt", "iov")
        else:
            nbytes = u.nbytes
            if self.aio_lio_opcode == IO_CMD_POLL:
                buf = 0 if buf is None else buf & 0xFFFFFFFF  # an int in libaio.h
            elif not isinstance(buf, int):
                buf = 0 if buf is None else 1  # here the kernel only checks whether an address is 0
        return Iocb(
            self.aio_lio_opcode,
            self.aio_fildes,
            buf,
            offset=u.offset,
            nbytes=nbytes,
            rw_flags=self.aio_rw_flags & 0xFFFFFFFF,
            ioprio=self.aio_reqprio if u.flags & _IOCB_FLAG_IOPRIO else None,
            resfd=u.resfd if u.flags & _IOCB_FLAG_RESFD else None,
            data=(self, self.data),
        )


@dataclass(slots=True, eq=False)
class io_event:
    """The result of one request; filled in by io_getevents and io_pgetevents.

    data: the iocb's data as it was when submitted.
    obj: the iocb.
    res: the result, or -errno.
    res2: 0 for all requests of today's kernel.
    """

    data: Any = None
    obj: iocb | None = None
    res: int = 0
    res2: int = 0


@dataclass(slots=True)
class timespec:
    """A relative timeout: seconds and nanoseconds.  A negative one means no limit."""

    tv_sec: int = 0
    tv_nsec: int = 0


io_callback_t: TypeAlias = Callable[[io_context_t, iocb, int, int], object]
_Context: TypeAlias = io_context_t | None
_Events: TypeAlias = Sequence[io_event] | None
_Timeout: TypeAlias = timespec | None
_Sigset: TypeAlias = Iterable[int] | None


def _checked(value: _Item, kind: type[_Item], name: str) -> _Item:
    if not isinstance(value, kind):
        raise TypeError(f"{name}: {kind.__name__} wanted, not {type(value).__name__}")
    return value


def _first(items: Sequence[_Item], nr: int, count_name: str, name: str) -> Sequence[_Item]:
    """Returns items[:nr]; raises ValueError for a count that would overrun."""
    if nr > len(items):
        raise ValueError(f"{count_name} is {nr}, but {name} has only {len(items)}")
    return items[:nr]


def _first_bytes(buffer: Any, count: int) -> Any:
    view = memoryview(buffer)
    if view.nbytes == count:
        return buffer
    if view.itemsize != 1 or view.ndim != 1:
        view = view.cast("B")
    return _first(view, count, "count", "buf")


def _live(ctx: _Context) -> Context | None:
    """Returns the Context to work on, or None where the kernel returns -EINVAL."""
    if ctx is None:
        return None
    context = _checked(ctx, io_context_t, "ctx").context
    if context is None or context.closed or ctx._pid != os.getpid():
        return None
    context.adopt()
    return context


def io_setup(maxevents: int, ctxp: _Context) -> int:
    """Makes a context for `maxevents` requests in flight and stores it in `ctxp`.

    Returns 0; -EFAULT if `ctxp` is None; -EINVAL if it is not NULL, or `maxevents` is not
    positive or is too large; -EAGAIN if fs.aio-max-nr does not allow it; -ENOMEM; -ENOSYS or
    -EPERM where the sandbox forbids it.  See io_setup(2).
    """
    if ctxp is None:
        return -errno.EFAULT
    if _checked(ctxp, io_context_t, "ctxp"):
        return -errno.EINVAL
    _checked(maxevents, int, "maxevents")
    try:
        ctxp.context = Context(maxevents)
    except ValueError:
        return -errno.EINVAL
    except OSError as error:
        return _errno(error)
    ctxp._pid = os.getpid()
    ctxp._in_flight = {}
    return 0


def io_destroy(ctx: _Context) -> int:
    """Cancels the polls, waits for reads and writes, and destroys `ctx`; events are discarded.

    Blocks for some tens of milliseconds.  `ctx` stays a stale handle: to use the variable again
    assign a new io_context_t, or use io_queue_init.
    Returns 0, or -EINVAL if `ctx` is NULL, was destroyed or belongs to the parent process.
    See io_destroy(2).
    """
    context = _live(ctx)
    if context is None or ctx is None:
        return -errno.EINVAL
    try:
        context.close()
    except OSError as error:
        return _errno(error)
    finally:
        ctx._in_flight = {}
    return 0


def io_submit(ctx: _Context, nr: int, ios: Sequence[iocb | None] | None) -> int:
    """Submits the first `nr` of `ios`; returns how many: fewer if one of them is refused.

    Returns, if the first one is refused or nothing can be submitted: -EINVAL for a bad `ctx` or
    negative `nr`, an operation the file does not support, a field that must be 0; -EFAULT for
    None and for memory that is not accessible; -EBADF for a descriptor that is closed or open
    in the wrong mode; -EAGAIN if no slot is free.  Raises ValueError if `ios` is shorter than
    `nr`.  Reads and writes of files not opened O_DIRECT happen within the call.
    See io_submit(2).
    """
    context = _live(ctx)
    if nr < 0 or context is None or ctx is None:
        return -errno.EINVAL
    if nr == 0:
        return 0
    if ios is None:
        return -errno.EFAULT
    requests: list[Iocb] = []
    refused = 0
    for item in _first(ios, nr, "nr", "ios"):
        request = -errno.EFAULT if item is None else _checked(item, iocb, "ios")._request()
        if isinstance(request, int):
            refused = request
            break
        requests.append(request)
    taken = len(requests)
    try:
        context.submit(requests)
    except SubmitError as error:
        taken = error.index
        refused = _errno(error)
    for request in requests[:taken]:
        item = request.data[0]
        item.key = 0
        ctx._in_flight.setdefault(item, []).append(request)
    return taken or refused


def io_cancel(ctx: _Context, iocb: iocb | None, evt: io_event | None) -> int:
    """Asks the kernel to cancel a request in flight: one IO_CMD_POLL of this `iocb`.

    Returns -EINPROGRESS where the cancellation is under way, as the kernel does.  The event comes
    through io_getevents, with res 0, and `evt` is never written.  Returns -EINVAL if `ctx` is bad,
    or no request of `iocb` that can be cancelled is in flight: reads and writes cannot.  Returns
    -EFAULT if `iocb` is None.  See io_cancel(2).
    """
    if iocb is None:
        return -errno.EFAULT
    context = _live(ctx)
    if context is None or ctx is None or iocb.key != 0:
        return -errno.EINVAL
    result = -errno.EINVAL
    for request in ctx._in_flight.get(iocb, ()):
        try:
            context.cancel(request)
        except OSError as error:
            result = _errno(error)
            continue
        return -errno.EINPROGRESS
    return result


def io_getevents(ctx: _Context, min_nr: int, nr: int, events: _Events, timeout: _Timeout) -> int:
    """Waits for at least `min_nr` events, fills in up to `nr` of `events`, returns how many.

    timeout: a timespec; None or a negative one waits without limit.  With {0, 0} and an
        empty ring this returns 0 without a system call, before any other check.

    Returns fewer than `min_nr` when the timeout has passed; -EINTR if a signal came first;
    -EINVAL for a bad `ctx`, or `min_nr` negative or more than `nr`; -EFAULT if `events` is
    None and `nr` is not 0.  Raises ValueError if `events` is shorter than `nr`.
    See io_getevents(2).
    """
    return _getevents(ctx, min_nr, nr, events, timeout, None)


def io_pgetevents(
    ctx: _Context, min_nr: int, nr: int, events: _Events, timeout: _Timeout, sigmask: _Sigset
) -> int:
    """io_getevents with `sigmask` as the thread's blocked signals during the wait.

    Returns also -ENOSYS where the kernel has no io_pgetevents (before Linux 4.18), and -EPERM
    where a seccomp filter forbids it.  With None the thread's mask does not change.
    """
    return _getevents(ctx, min_nr, nr, events, timeout, sigmask)


def _getevents(
    ctx: _Context, min_nr: int, nr: int, events: _Events, timeout: _Timeout, sigmask: _Sigset
) -> int:
    slots: Sequence[io_event] = () if events is None else _first(events, nr, "nr", "events")
    for slot in slots:
        _checked(slot, io_event, "events")
    timeout_ns = None
    if timeout is not None:
        _checked(timeout, timespec, "timeout")
        timeout_ns = timeout.tv_sec * 10**9 + timeout.tv_nsec
    context = _live(ctx)
    if context is None or ctx is None:
        return -errno.EINVAL
    if timeout_ns == 0 and context.user_ring and not context.events_pending():
        return 0
    if min_nr < 0 or nr < min_nr:
        return -errno.EINVAL
    if events is None and nr > 0:
        return -errno.EFAULT
    if timeout_ns is not None and not 0 <= timeout_ns < 2**63:
        timeout_ns = None
    try:
        reaped = context.getevents(min_nr, nr, timeout_ns, sigmask)
    except OSError as error:
        return _errno(error)
    for slot, event in zip(slots, reaped, strict=False):
        slot.obj, slot.data = event.data
        slot.res = event.res
        slot.res2 = event.res2
    for event in reaped:
        item = event.data[0]
        requests = ctx._in_flight[item]
        requests.remove(event.obj)
        if not requests:
            del ctx._in_flight[item]
    return len(reaped)


def io_queue_init(maxevents: int, ctxp: _Context) -> int:
    """Sets `ctxp` to NULL and then calls io_setup; returns -EINVAL if `maxevents` <= 0."""
    if maxevents <= 0:
        return -errno.EINVAL
    if ctxp is not None:
        ctxp.context = None
    return io_setup(maxevents, ctxp)


def io_queue_release(ctx: _Context) -> int:
    """Is io_destroy under its older name."""
    return io_destroy(ctx)


def io_queue_run(ctx: _Context) -> int:
    """Takes the events that are there and calls each one's data as cb(ctx, iocb, res, res2).

    Returns 0 when none is left, or -errno.  An exception of a callback is raised here; its event
    is lost, the later ones stay in the queue.
    """
    event = io_event()
    while (result := io_getevents(ctx, 0, 1, [event], timespec())) == 1:
        event.data(ctx, event.obj, event.res, event.res2)
    return result


def io_queue_wait(ctx: _Context, timeout: _Timeout) -> int:
    """Calls io_getevents(ctx, 0, 0, NULL, timeout), which does not wait on today's kernels.

    libaio 0.3.113 exports it without declaring it.  Returns 0, or -EINVAL for a bad `ctx`.
    """
    return io_getevents(ctx, 0, 0, None, timeout)


def io_set_callback(iocb: iocb, cb: io_callback_t) -> None:
    """Sets the callback that io_queue_run calls when the request is complete: the iocb's data."""
    iocb.data = cb


def io_prep_pread(iocb: iocb, fd: int, buf: Any, count: int, offset: int) -> None:
    """Makes `iocb` a read of `count` bytes at `offset` into the writable buffer `buf`.

    As every io_prep_*, it clears all other fields: set data and eventfd after it.
    """
    _check_count(buf, count)
    iocb._prep(IO_CMD_PREAD, fd, buf, count, offset)


def io_prep_pwrite(iocb: iocb, fd: int, buf: Any, count: int, offset: int) -> None:
    """Makes `iocb` a write of the first `count` bytes of `buf` at `offset`."""
    _check_count(buf, count)
    iocb._prep(IO_CMD_PWRITE, fd, buf, count, offset)


def io_prep_preadv(iocb: iocb, fd: int, iov: _Iovec, iovcnt: int, offset: int) -> None:
    """Makes `iocb` a read at `offset` into the first `iovcnt` buffers of `iov`."""
    io_prep_preadv2(iocb, fd, iov, iovcnt, offset, 0)


def io_prep_pwritev(iocb: iocb, fd: int, iov: _Iovec, iovcnt: int, offset: int) -> None:
    """Makes `iocb` a write at `offset` of the first `iovcnt` buffers of `iov`."""
    io_prep_pwritev2(iocb, fd, iov, iovcnt, offset, 0)


def io_prep_preadv2(iocb: iocb, fd: int, iov: _Iovec, iovcnt: int, offset: int, flags: int) -> None:
    """Is io_prep_preadv with os.RWF_* flags."""
    if iov is not None:
        _first(iov, iovcnt, "iovcnt", "iov")
    iocb._prep(IO_CMD_PREADV, fd, iov, iovcnt, offset)
    iocb.aio_rw_flags = flags


def io_prep_pwritev2(
    iocb: iocb, fd: int, iov: _Iovec, iovcnt: int, offset: int, flags: int
) -> None:
    """Is io_prep_pwritev with os.RWF_* flags."""
    if iov is not None:
        _first(iov, iovcnt, "iovcnt", "iov")
    iocb._prep(IO_CMD_PWRITEV, fd, iov, iovcnt, offset)
    iocb.aio_rw_flags = flags


def io_prep_poll(iocb: iocb, fd: int, events: int) -> None:
    """Makes `iocb` a wait for `events` (select.POLL*) on `fd`; it completes once."""
    iocb._prep(IO_CMD_POLL, fd, events)


def io_poll(ctx: _Context, iocb: iocb, cb: io_callback_t, fd: int, events: int) -> int:
    """Calls io_prep_poll, io_set_callback and io_submit; returns 1 or -errno."""
    io_prep_poll(iocb, fd, events)
    io_set_callback(iocb, cb)
    return io_submit(ctx, 1, [iocb])


def io_prep_fsync(iocb: iocb, fd: int) -> None:
    """Makes `iocb` an fsync(2) of `fd`."""
    iocb._prep(IO_CMD_FSYNC, fd)


def io_fsync(ctx: _Context, iocb: iocb, cb: io_callback_t, fd: int) -> int:
    """Calls io_prep_fsync, io_set_callback and io_submit; returns 1 or -errno."""
    io_prep_fsync(iocb, fd)
    io_set_callback(iocb, cb)
    return io_submit(ctx, 1, [iocb])


def io_prep_fdsync(iocb: iocb, fd: int) -> None:
    """Makes `iocb` an fdatasync(2) of `fd`."""
    iocb._prep(IO_CMD_FDSYNC, fd)


def io_fdsync(ctx: _Context, iocb: iocb, cb: io_callback_t, fd: int) -> int:
    """Calls io_prep_fdsync, io_set_callback and io_submit; returns 1 or -errno."""
    io_prep_fdsync(iocb, fd)
    io_set_callback(iocb, cb)
    return io_submit(ctx, 1, [iocb])


def io_set_eventfd(iocb: iocb, eventfd: int) -> None:
    """Has the request add 1 to `eventfd` when it is complete; call it after io_prep_*."""
    iocb.u.c.flags |= _IOCB_FLAG_RESFD
    iocb.u.c.resfd = eventfd


def _check_count(buf: Any, count: int) -> None:
    if buf is not None and count > (size := memoryview(buf).nbytes):
        raise ValueError(f"count is {count}, but buf has only {size} bytes")


def _errno(error: OSError) -> int:
    assert error.errno is not None
    return -error.errno
