"""select and selectors: polling the host's descriptors.

Facts: the selectors of `selectors` are Python over `select.select`, `poll` and `epoll`, which
their classes hold as attributes. With those replaced they work unchanged.

Rule: a wait ends at exactly the virtual time that it names, and goes on after a signal whose
handler raises nothing.
Left out: descriptors of the machine: EBADF or POLLNVAL, as for any closed one.
"""

from __future__ import annotations

import math
import select
import selectors
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from ...kernel.uapi import EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT, EPOLLPRI
from .. import inside
from .dispatch import Lookalike, Replacement, function

if TYPE_CHECKING:
    from ..host import Host

T = TypeVar("T")
NSEC_PER_SEC = 1_000_000_000
NSEC_PER_MSEC = 1_000_000


def fileno(fileobj: Any) -> int:
    """Return the descriptor of an object or number. TypeError, ValueError if negative."""
    if isinstance(fileobj, int):
        fd = fileobj
    else:
        method = getattr(fileobj, "fileno", None)
        if method is None:
            raise TypeError("argument must be an int, or have a fileno() method.")
        fd = method()
        if not isinstance(fd, int):
            raise TypeError("fileno() returned a non-integer")
    if fd < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
    return fd


def wait(host: Host, call: Callable[[int | None], T], timeout_ns: int | None) -> T:
    """Call with the time that is left until it is not interrupted."""
    clock = host.kernel.sched.clock
    deadline_ns = None if timeout_ns is None else clock.now_ns + timeout_ns
    while True:
        try:
            return call(timeout_ns)
        except InterruptedError:
            if deadline_ns is not None:
                timeout_ns = max(deadline_ns - clock.now_ns, 0)


def select_files(
    host: Host,
    readers: Iterable[Any],
    writers: Iterable[Any],
    exceptional: Iterable[Any],
    timeout: float | None = None,
    /,
) -> tuple[list[Any], list[Any], list[Any]]:
    """select.select: returns the given objects that are ready. ValueError, OSError."""
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")
    given = [list(files) for files in (readers, writers, exceptional)]
    numbers = [[fileno(file) for file in files] for files in given]
    timeout_ns = None if timeout is None else math.ceil(timeout * NSEC_PER_SEC)
    found = wait(
        host,
        lambda left_ns: host.kernel.select(numbers[0], numbers[1], numbers[2], left_ns),
        timeout_ns,
    )
    ready = [
        [file for file, fd in zip(files, fds, strict=True) if fd in set(hits)]
        for files, fds, hits in zip(given, numbers, found, strict=True)
    ]
    return ready[0], ready[1], ready[2]


class Poll:
    """select.poll's object."""

    def __init__(self) -> None:
        self._events: dict[int, int] = {}

    def register(
        self, fd: Any, eventmask: int = select.POLLIN | select.POLLPRI | select.POLLOUT
    ) -> None:
        self._events[fileno(fd)] = eventmask & 0xFFFF

    def modify(self, fd: Any, eventmask: int) -> None:
        number = fileno(fd)
        if number not in self._events:
            raise FileNotFoundError(2, "No such file or directory")
        self._events[number] = eventmask & 0xFFFF

    def unregister(self, fd: Any) -> None:
        del self._events[fileno(fd)]

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Return the ready (descriptor, events); `timeout` is in milliseconds."""
        host = inside.host()
        if host is None:
            raise RuntimeError("a poll object of a simulated world is used outside of it")
        watched = list(self._events.items())
        timeout_ns = None
        if timeout is not None and timeout >= 0:
            timeout_ns = math.ceil(timeout * NSEC_PER_MSEC)
        kernel = host.kernel
        found = wait(host, lambda left_ns: kernel.poll(watched, left_ns), timeout_ns)
        return [(fd, mask) for (fd, _), mask in zip(watched, found, strict=True) if mask]


class Epoll:
    """select.epoll: an epoll set of the host's kernel."""

    def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
        if sizehint != -1 and sizehint <= 0:
            raise ValueError("sizehint must be positive or -1")
        host = inside.host()
        if host is None:
            raise RuntimeError("an epoll set of a simulated world is made inside of it")
        self._kernel = host.kernel
        self._fd = host.kernel.epoll_create1()
        self._watched = 0

    @classmethod
    def fromfd(cls, fd: int) -> Epoll:
        """Return an epoll object for an epoll descriptor of the host."""
        made = cls.__new__(cls)
        host = inside.host()
        if host is None:
            raise RuntimeError("an epoll set of a simulated world is made inside of it")
        made._kernel, made._fd, made._watched = host.kernel, fd, 0
        return made

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def _open(self) -> int:
        if self._fd < 0:
            raise ValueError("I/O operation on closed epoll object")
        return self._fd

    def fileno(self) -> int:
        return self._open()

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0 and not self._kernel.halted:
            self._kernel.close(fd)

    def __enter__(self) -> Epoll:
        self._open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def register(self, fd: Any, eventmask: int = EPOLLIN | EPOLLPRI | EPOLLOUT) -> None:
        self._kernel.epoll_ctl(self._open(), EPOLL_CTL_ADD, fileno(fd), eventmask)

    def modify(self, fd: Any, eventmask: int) -> None:
        self._kernel.epoll_ctl(self._open(), EPOLL_CTL_MOD, fileno(fd), eventmask)

    def unregister(self, fd: Any) -> None:
        self._kernel.epoll_ctl(self._open(), EPOLL_CTL_DEL, fileno(fd))

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Return the ready (descriptor, events); `timeout` is in seconds."""
        fd = self._open()
        if maxevents == -1:
            maxevents = 1023
        elif maxevents <= 0:
            raise ValueError(f"maxevents must be greater than 0, got {maxevents}")
        timeout_ns = None
        if timeout is not None and timeout >= 0:
            timeout_ns = math.ceil(timeout * NSEC_PER_SEC)
        host = inside.host()
        assert host is not None, "an epoll set of a simulated world is used outside of it"
        return wait(
            host, lambda left_ns: self._kernel.epoll_wait(fd, maxevents, left_ns), timeout_ns
        )


def _make_epoll(original: Any) -> Any:
    return Lookalike(
        "epoll",
        (Epoll,),
        {
            "__module__": "select",
            "__qualname__": "epoll",
            "original": original,
            "kinds": (original, Epoll),
            "simulate": None,
        },
    )


def replacements() -> Iterable[Replacement]:
    yield select, "select", function(select_files)
    yield select, "poll", function(lambda host: Poll())
    yield select, "epoll", _make_epoll
    # The classes hold what was in `select` at their import.
    yield selectors.SelectSelector, "_select", function(select_files)
    yield selectors.PollSelector, "_selector_cls", function(lambda host: Poll())
    yield selectors.EpollSelector, "_selector_cls", _make_epoll
