"""AioSelector: a selector that waits on an AIO ring.

Facts.  A parked IOCB_CMD_POLL keeps its file open after close(2): the peer sees no end.  An epoll
set does not, and its own descriptor can be polled like any other; that poll completes when one of
its files becomes ready.  A registered file is the program's, which may close it at any time.  Its
number may then name another file.

Rule.  All registered files live in one epoll set, whose descriptor is the only file polled on the
ring.  Each event of the set is polled again before it is returned (epoll_set.pyx): an event whose
number names another file is dropped.  A registration that has lost its file stays, as in
selectors, until it is unregistered or its number is registered anew.  While an event of such a
registration was dropped, each select checks whether the number names the file again.

Why.  No other file is reported, and none is kept open.  The poll parks when nothing is ready:
from then on a select that does not wait only reads memory.

Failure prevented.  The owner closes a registered socket.  With a poll of the socket itself its peer
would wait for the end until `unregister`.  A reused number would be reported for the socket.

Cost.  One slot and one descriptor; one epoll_ctl an event; a poll and its cancellation at the
start, as the proof that both work here.  A select that waits makes two system calls, where epoll
has one.
"""

import errno
import os
import selectors
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from select import EPOLLIN, EPOLLOUT, POLLIN, POLLOUT
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import TYPE_CHECKING, Any, NamedTuple

from aiopoll.aio.context import Context
from aiopoll.aio.iocb import Iocb
from aiopoll.aio.missed_wakeups import require_wakeups
from aiopoll.aio.statistics import ContextStatistics
from aiopoll.reactor.epoll_set import EpollEntry, EpollSet
from aiopoll.reactor.statistics import warn_of_deprecated
from aiopoll.support import require_aio_poll

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


class SelectorStatistics(NamedTuple):
    """Counts of an AioSelector."""

    registered: int
    """Files registered now."""
    stale: int
    """Events dropped because their number named another file, or none."""
    context: ContextStatistics
    """The counters of the Context underneath."""

    @property
    def nested(self) -> int:
        """Deprecated since 0.2: in 0.1 some files were in the epoll set; all are in it now."""
        warn_of_deprecated("SelectorStatistics.nested", "it is `registered` now")
        return self.registered

    @property
    def refused(self) -> int:
        """Deprecated since 0.2: 0, for AIO poll is asked of the epoll set alone."""
        warn_of_deprecated("SelectorStatistics.refused", "no file is refused any more")
        return 0

    @property
    def overflowed(self) -> int:
        """Deprecated since 0.2: 0, for files take no slots."""
        warn_of_deprecated("SelectorStatistics.overflowed", "files take no slots any more")
        return 0


def _epoll_mask(events: int) -> int:
    return (EPOLLIN if events & EVENT_READ else 0) | (EPOLLOUT if events & EVENT_WRITE else 0)


def _ready_events(mask: int, wanted: int) -> int:
    """Returns the EVENT_* of a poll mask: all but plain input wakes writers, and the reverse."""
    ready = (EVENT_WRITE if mask & ~POLLIN else 0) | (EVENT_READ if mask & ~POLLOUT else 0)
    return ready & wanted


def _check_events(events: int) -> None:
    if not events or events & ~(EVENT_READ | EVENT_WRITE):
        raise ValueError(f"events must be EVENT_READ, EVENT_WRITE or both, not {events!r}")


def _key_of(entry: EpollEntry) -> SelectorKey:
    key: SelectorKey = entry.key
    return key


def _fd_of(fileobj: "FileDescriptorLike") -> int:
    fd: Any = fileobj
    if not isinstance(fileobj, int):
        try:
            fd = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(
                f"not a file descriptor, nor an object with fileno(): {fileobj!r}"
            ) from None
    if fd < 0:
        raise ValueError(f"not a file descriptor: {fd}")
    return int(fd)


class _Map(Mapping["FileDescriptorLike", SelectorKey]):
    """A mapping of the registered files, by file object or descriptor."""

    def __init__(self, selector: "AioSelector") -> None:
        self._selector = selector

    def __len__(self) -> int:
        return len(self._selector._entries)

    def __getitem__(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        try:
            return _key_of(self._selector._lookup(fileobj))
        except ValueError:
            raise KeyError(f"{fileobj!r} is not registered") from None

    def __iter__(self) -> Iterator["FileDescriptorLike"]:
        return iter(self._selector._entries)


class AioSelector(selectors.BaseSelector):
    """A selector on an AIO ring, for every file that epoll takes.

    nr_events: the slots to take of fs.aio-max-nr; one is used, however many files there are.
    user_ring: as for Context.

    Like any selector it may pass from thread to thread, but must not be used by two at once
    (RuntimeError).  A file that is closed while it is registered is not reported any more.  Its
    registration stays, as in selectors.EpollSelector.

    Raises OSError where the kernel gives no context or has no AIO poll; the text names the cause.
    """

    def __init__(self, nr_events: int = 1, *, user_ring: bool | None = None) -> None:
        self._entries: dict[int, EpollEntry] = {}
        self._map: _Map | None = None  # closed, until the constructor has finished
        try:
            require_wakeups()
            with ExitStack() as undo:
                self._context = undo.enter_context(Context(nr_events, user_ring=user_ring))
                self._set = EpollSet()
                undo.callback(self._set.close)
                self._poll = Iocb.poll(self._set.fileno(), POLLIN)
                # Proves that AIO poll works, and io_cancel, without which no poll could be ended.
                self._context.submit([self._poll])
                self._context.cancel(self._poll)
                self._context.reap(1)
                undo.pop_all()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                require_aio_poll()  # raises with the cause, if AIO poll is missing
            raise
        self._map = _Map(self)

    def register(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> SelectorKey:
        """Registers a file for EVENT_READ, EVENT_WRITE or both.

        Takes the place of a registration whose file has lost its number.
        Raises ValueError for other events or an object that is no file, and KeyError if it is
        registered.  Raises OSError (EBADF) if it is not open, and PermissionError if it cannot be
        polled, as epoll does for regular files.
        """
        self._check_open()
        _check_events(events)
        try:
            fd = _fd_of(fileobj)
        except ValueError:
            if self._find(fileobj) is None:
                raise
            raise KeyError(f"{fileobj!r} is already registered, and closed") from None
        previous = self._entries.get(fd)
        if previous is not None:
            if self._set.has(previous):
                raise KeyError(f"{fileobj!r} (file descriptor {fd}) is already registered")
            self._forget(previous)
        key = SelectorKey(fileobj, fd, events, data)
        self._entries[fd] = self._set.add(fd, _epoll_mask(events), key)
        return key

    def unregister(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        """Unregisters a file, which may be closed.  Raises KeyError if it is not registered."""
        self._check_open()
        entry = self._lookup(fileobj)
        self._forget(entry)
        return _key_of(entry)

    def modify(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> SelectorKey:
        """Changes the events or the data of a registration.

        Where the number names another file by now, that file is registered from then on.
        Raises KeyError if it is not registered.  After OSError (EBADF: closed) it is not.
        """
        self._check_open()
        _check_events(events)
        entry = self._lookup(fileobj)
        entry.key = _key_of(entry)._replace(events=events, data=data)
        if self._set.modify(entry, _epoll_mask(events)):
            return _key_of(entry)
        self._forget(entry)
        try:
            return self.register(fileobj, events, data)
        except ValueError:  # the object has no number any more
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Waits until a file is ready, and returns all ready files, as (key, events) pairs.

        timeout: seconds; None waits without limit, zero or less does not wait.
        """
        self._check_open()
        self._context.adopt()
        deadline = None if timeout is None else time.monotonic() + timeout
        self._set.find_lost()
        while True:
            # The context knows whether the poll is parked, even after an interrupt.
            if not self._context.statistics().in_flight:
                if ready := self._collect():
                    return ready
                self._context.submit([self._poll])
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is None or remaining > 0:
                self._context.reap(1, timeout=remaining)
            elif not self._context.reap(0):
                return []

    def _collect(self) -> list[tuple[SelectorKey, int]]:
        """Returns the files that are ready in the epoll set."""
        return [
            (key, events)
            for key, mask in self._set.ready(max(len(self._entries), 1))
            if (events := _ready_events(mask, key.events))
        ]

    def get_map(self) -> Mapping["FileDescriptorLike", SelectorKey]:
        """Returns the registered files; None once closed, as in the standard library."""
        return self._map  # type: ignore[return-value]

    def close(self) -> None:
        """Cancels the poll and gives the slots back; takes tens of milliseconds in the kernel."""
        if self._map is None:
            return
        self._map = None
        self._entries.clear()
        self._context.close()
        self._set.close()

    def statistics(self) -> SelectorStatistics:
        """Returns the counters.  Raises ValueError once closed."""
        self._check_open()
        return SelectorStatistics(
            registered=len(self._entries),
            stale=self._set.stale,
            context=self._context.statistics(),
        )

    def _check_open(self) -> None:
        if self._map is None:
            raise ValueError("this AioSelector is closed")

    def _find(self, fileobj: "FileDescriptorLike") -> EpollEntry | None:
        """Returns the entry of a closed file object, which has lost its number."""
        for entry in self._entries.values():
            if _key_of(entry).fileobj is fileobj:
                return entry
        return None

    def _lookup(self, fileobj: "FileDescriptorLike") -> EpollEntry:
        """Returns the entry of a file; KeyError if it is not registered, ValueError if no file."""
        try:
            entry = self._entries.get(_fd_of(fileobj))
        except ValueError:
            entry = self._find(fileobj)
            if entry is None:
                raise
        if entry is None:
            raise KeyError(f"{fileobj!r} is not registered")
        return entry

    def _forget(self, entry: EpollEntry) -> None:
        del self._entries[entry.fd]
        self._set.remove(entry)
