"""The abilities of this kernel and sandbox, found by trying them.

Facts.  The presence of a system call proves little.  gVisor has io_submit and returns EINVAL for
POLL.  seccomp profiles allow some of the six calls and refuse others (Podman's: io_pgetevents).
io_setup depends on how much of fs.aio-max-nr the rest of the machine has taken.

Rule.  Each ability is used once, on a pipe, in a Context of one event.  Each refusal becomes
plain words with the fix; the words live in aio/errors.py, beside those of the exceptions.

Why.  No table of kernels and sandboxes stays true.

Cost.  Some tens of milliseconds, nearly all in io_destroy; a handful of descriptors and one slot
of fs.aio-max-nr meanwhile.
"""

import errno
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from aiopoll.aio.context import Context
from aiopoll.aio.errors import (
    USER_RING_LIMIT,
    getevents_error,
    pgetevents_limit,
    poll_lost_reason,
    poll_refused_reason,
    read_sysctl,
)
from aiopoll.aio.iocb import Iocb
from aiopoll.aio.missed_wakeups import missed_wakeups

# A due event is in the ring at once, or when a kworker has run: where AIO poll works this is never
# waited out.
_WAIT_SECONDS_MAX = 2.0


@dataclass(frozen=True, slots=True)
class FileSupport:
    """The result of AIO poll for one kind of file."""

    kind: str
    """The kind of the file, in plain words: "pipe", "terminal", …"""
    polls: bool | None
    """True if POLL is taken, False if refused (an epoll set serves it), None if not tested."""
    note: str
    """A remark about it, or why it was not tested; may be empty."""


@dataclass(frozen=True, slots=True)
class Support:
    """The result of `probe`.  Source: io_setup(2), io_submit(2), io_getevents(2), io_cancel(2)."""

    aio_poll: bool = False
    """AIO poll can be relied on: a POLL is taken, completes, misses nothing, can be cancelled."""
    setup: bool = False
    """io_setup makes a context."""
    submit: bool = False
    """io_submit takes a POLL on a pipe."""
    cancel: bool = False
    """io_cancel cancels a POLL."""
    pgetevents: bool = False
    """io_pgetevents can be used; without it only `Context.reap(sigmask=…)` is missing."""
    user_ring: bool = False
    """Events can be reaped from the mapped ring, without a system call."""
    aio_max_nr: int | None = None
    """fs.aio-max-nr, the machine's limit in events; None where /proc does not show it."""
    aio_nr: int | None = None
    """fs.aio-nr, how many of them were taken before the probe; None where /proc has none."""
    errno: int = 0
    """The errno that stands behind `reason`; 0 where AIO poll works."""
    reason: str = ""
    """Why `aio_poll` is False and what to do about it; empty where it is True."""
    limits: tuple[str, ...] = ()
    """The abilities that are missing or slower although AIO poll works, each with its fix."""
    kernel: str = ""
    """The kernel's release, as uname(2) has it."""
    files: tuple[FileSupport, ...] = ()
    """Kinds of files, polled for input; empty where POLL is not taken at all."""

    @property
    def refused(self) -> tuple[str, ...]:
        """The kinds of files that refuse POLL."""
        return tuple(file.kind for file in self.files if file.polls is False)


def probe() -> Support:
    """Finds out which parts of AIO poll work here.  Never raises and never hangs.

    Leaves no descriptor and no slot behind.  The result is of this moment: another process
    may take the last of fs.aio-max-nr.
    """
    return _probe(with_files=True)


def require_aio_poll() -> None:
    """Raises OSError, with the errno and the reason that `probe` finds, where AIO poll is missing.

    Takes some tens of milliseconds: call it to explain a refusal, not to forestall one.
    """
    support = _probe(with_files=False)
    if not support.aio_poll:
        # From None: the refusal that this explains has the same cause in fewer words.
        raise OSError(support.errno, support.reason) from None


@dataclass(slots=True)
class _Findings:
    """The values of a Support, while they are found."""

    kernel: str
    version: str
    setup: bool = False
    submit: bool = False
    completed: bool = False
    cancel: bool = False
    misses: bool = False
    pgetevents: bool = False
    user_ring: bool = False
    errno: int = 0
    reason: str = ""
    limits: list[str] = field(default_factory=list)
    files: list[FileSupport] = field(default_factory=list)

    @property
    def aio_poll(self) -> bool:
        return self.submit and self.completed and self.cancel and not self.misses

    def refuse(self, error: OSError, reason: str = "") -> None:
        """Notes an obstacle to AIO poll: the first one counts, if AIO poll does not work."""
        if not self.reason and not self.aio_poll:
            self.errno = error.errno or errno.EIO
            self.reason = reason or error.strerror or str(error)


def _probe(with_files: bool) -> Support:
    findings = _Findings(*_kernel())
    aio_max_nr, aio_nr = read_sysctl("aio-max-nr"), read_sysctl("aio-nr")
    try:
        context = Context(1, user_ring=True)
    except OSError as error:
        findings.refuse(error)
    else:
        findings.setup = True
        try:
            with context:
                _try_context(context, findings)
                if with_files and findings.submit:
                    findings.files += _try_files(context)
        except OSError as error:
            findings.refuse(error)
    return Support(
        aio_poll=findings.aio_poll,
        setup=findings.setup,
        submit=findings.submit,
        cancel=findings.cancel,
        pgetevents=findings.pgetevents,
        user_ring=findings.user_ring,
        aio_max_nr=aio_max_nr,
        aio_nr=aio_nr,
        errno=findings.errno,
        reason=findings.reason,
        limits=tuple(findings.limits),
        kernel=findings.kernel,
        files=tuple(findings.files),
    )


def _kernel() -> tuple[str, str]:
    """Release and version of the kernel, as uname(2) has them."""
    try:
        uname = os.uname()
    except OSError:
        return "", ""
    return uname.release, uname.version


def _try_context(context: Context, findings: _Findings) -> None:
    findings.user_ring = context.user_ring
    if not findings.user_ring:
        findings.limits.append(USER_RING_LIMIT)
    findings.pgetevents = _try_pgetevents(context, findings)
    try:
        reader, writer = os.pipe()
    except OSError as error:
        findings.refuse(error, f"there is no pipe to test AIO poll with: {error.strerror}")
        return
    with ExitStack() as stack:
        stack.callback(os.close, reader)
        stack.callback(os.close, writer)
        os.set_blocking(reader, False)
        _try_poll(context, reader, writer, findings)
        if findings.completed:
            _try_cancel(context, reader, findings)
        if findings.cancel and (reason := missed_wakeups()):
            findings.misses = True
            findings.refuse(OSError(errno.EOPNOTSUPP, reason))


def _try_pgetevents(context: Context, findings: _Findings) -> bool:
    if hasattr(sys, "getandroidapilevel"):
        # Android's filter kills the process instead of returning an error.
        findings.limits.append(pgetevents_limit(getevents_error(errno.ENOSYS, True)))
        return False
    try:
        # All signals are blocked, so that none can interrupt a call that does not wait anyway.
        context.reap(0, timeout=0, sigmask=signal.valid_signals())
    except OSError as error:
        findings.limits.append(pgetevents_limit(error))
        return False
    return True


def _try_poll(context: Context, reader: int, writer: int, findings: _Findings) -> None:
    """Tries a POLL that parks on an empty pipe and completes when the pipe is written to."""
    try:
        context.submit([Iocb.poll(reader, select.POLLIN)])
    except OSError as error:
        code = error.errno or errno.EIO
        findings.refuse(error, poll_refused_reason(code, findings.kernel, findings.version))
        return
    findings.submit = True
    try:
        # No event is there yet: this calls io_getevents, where the ring would hold the event.
        events = context.reap(1, timeout=1e-6)
        os.write(writer, b"x")
        events += context.reap(1, timeout=_WAIT_SECONDS_MAX)
    except OSError as error:
        findings.refuse(error)
        return
    os.read(reader, 1)
    if len(events) == 1 and events[0].res == select.POLLIN:
        findings.completed = True
    else:
        findings.refuse(_lost("the pipe was written to"))


def _try_cancel(context: Context, reader: int, findings: _Findings) -> None:
    parked = Iocb.poll(reader, select.POLLIN)
    context.submit([parked])
    try:
        context.cancel(parked)
    except OSError as error:
        # Without it no polled file could ever be closed: a parked request keeps it open.
        findings.refuse(error)
        return
    findings.cancel = len(context.reap(1, timeout=_WAIT_SECONDS_MAX)) == 1
    if not findings.cancel:
        findings.refuse(_lost("it was cancelled"))


def _lost(cause: str) -> OSError:
    return OSError(errno.ENOSYS, poll_lost_reason(_WAIT_SECONDS_MAX, cause))


def _open_pipe(stack: ExitStack) -> int:
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    return reader


def _open_rdwr_fifo(stack: ExitStack) -> int:
    # Opened again through /proc a pipe is a FIFO like any, and needs no place in a file system.
    return _closed_later(stack, os.open(f"/proc/self/fd/{_open_pipe(stack)}", os.O_RDWR))


def _open_terminal(stack: ExitStack) -> int:
    master, slave = os.openpty()
    stack.callback(os.close, master)
    return _closed_later(stack, slave)


def _open_terminal_master(stack: ExitStack) -> int:
    master, slave = os.openpty()
    stack.callback(os.close, slave)
    return _closed_later(stack, master)


def _open_socket(stack: ExitStack) -> int:
    left, right = socket.socketpair()
    stack.enter_context(right)
    return stack.enter_context(left).fileno()


def _open_udp_socket(stack: ExitStack) -> int:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return stack.enter_context(udp).fileno()


def _open_epoll(stack: ExitStack) -> int:
    return stack.enter_context(select.epoll()).fileno()


def _closed_later(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


# For poll(2) a regular file is always ready; its reads and writes are what takes time.
_ALWAYS_READY = "always ready, as for poll(2)"
_NEEDS_EPOLL = "has two wait queues: served by a nested epoll set"

_FILES: tuple[tuple[str, Callable[[ExitStack], int], str], ...] = (
    ("pipe", _open_pipe, ""),
    ("FIFO opened O_RDWR", _open_rdwr_fifo, _NEEDS_EPOLL),
    ("socket (UNIX)", _open_socket, ""),
    ("socket (UDP)", _open_udp_socket, ""),
    ("eventfd", lambda stack: _closed_later(stack, os.eventfd(0)), ""),
    ("epoll set", _open_epoll, ""),
    ("pidfd", lambda stack: _closed_later(stack, os.pidfd_open(os.getpid())), ""),
    ("terminal", _open_terminal, _NEEDS_EPOLL),
    ("terminal, master side", _open_terminal_master, _NEEDS_EPOLL),
    (
        "regular file",
        lambda stack: _closed_later(stack, os.open("/proc/self/exe", os.O_RDONLY)),
        _ALWAYS_READY,
    ),
    (
        "/dev/null",
        lambda stack: _closed_later(stack, os.open("/dev/null", os.O_RDONLY)),
        _ALWAYS_READY,
    ),
)

_SIGNALFD = FileSupport(
    "signalfd",
    None,
    "taken, but never completes: served by a nested epoll set",
)


def _try_files(context: Context) -> list[FileSupport]:
    """Polls a new file of each kind for input; closing the context cancels parked requests."""
    return [*(_try_file(context, *file) for file in _FILES), _SIGNALFD]


def _try_file(
    context: Context, kind: str, opened: Callable[[ExitStack], int], note: str
) -> FileSupport:
    with ExitStack() as stack:
        try:
            fd = opened(stack)
        except (OSError, AttributeError) as error:
            # AttributeError: a Python that was built where there was no such file.
            return FileSupport(kind, None, f"not tested: {error}")
        try:
            context.submit([Iocb.poll(fd, select.POLLIN)])
        except OSError as error:
            if error.errno == errno.EINVAL:
                return FileSupport(kind, False, note or "refused with EINVAL")
            return FileSupport(kind, None, f"not tested: {os.strerror(error.errno or errno.EIO)}")
        return FileSupport(kind, True, "" if note == _NEEDS_EPOLL else note)
