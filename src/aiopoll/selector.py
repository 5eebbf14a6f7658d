"""AioSelector: a selector whose readiness comes from AIO poll.

Facts.  IOCB_CMD_POLL is one-shot, and its result is of the moment of the wake-up: whoever
reaped late sees what may no longer be so.  A request that is ready when it is submitted
completes inside io_submit, with the state of that moment.  AIO poll refuses files with two wait
queues (terminals, FIFOs opened O_RDWR) and never completes for a signalfd; a parked request
keeps its file open after close(2).

Rule.  A selector is level-triggered to its user.  `select` therefore arms again whatever
completed since the last call, without reporting it, submits all that is not armed in one
io_submit, and reports what completes from then on.  Files that AIO poll refuses, and those for
which no slot is left, live in one nested epoll set, whose own descriptor is polled on the ring
like any other.

Why.  An event reaped at the start of `select` may be stale; the second submission asks the
kernel instead of guessing, and costs 0.4 µs only for files that were active in between.

Cost.  One slot and one descriptor for the epoll set, always; one fstat a registration; a poll
and its cancellation at the start, as the proof that both work here.
`unregister` cancels before the caller closes the file, with one io_cancel if it is armed.
"""

import errno
import os
import selectors
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from select import EPOLLIN, EPOLLOUT, POLLIN, POLLOUT, epoll
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import TYPE_CHECKING, Any, NamedTuple

from aiopoll._core.aio import Context
from aiopoll._core.errors import SubmitError
from aiopoll._core.iocb import Iocb, IoEvent
from aiopoll._core.reactor import needs_epoll
from aiopoll._core.statistics import ContextStatistics
from aiopoll.probe import require_aio_poll

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


class SelectorStatistics(NamedTuple):
    """Counts of an AioSelector."""

    registered: int
    """Files registered now."""
    nested: int
    """Of those, the files in the nested epoll set."""
    refused: int
    """Times that AIO poll refused a file, which went to the epoll set."""
    overflowed: int
    """Times that a file went to the epoll set because no slot was left."""
    stale: int
    """Events not reported because nothing was ready when they were looked at."""
    context: ContextStatistics
    """The counters of the Context underneath."""


class _Registration:
    """One registered file and its poll request."""

    __slots__ = ("armed", "iocb", "key", "nested")

    def __init__(self, key: SelectorKey) -> None:
        self.key = key
        self.iocb = _poll_request(self)
        self.armed = False
        self.nested = False


def _poll_request(registration: _Registration) -> Iocb:
    events = registration.key.events
    mask = (POLLIN if events & EVENT_READ else 0) | (POLLOUT if events & EVENT_WRITE else 0)
    return Iocb.poll(registration.key.fd, mask, data=registration)


def _epoll_mask(events: int) -> int:
    return (EPOLLIN if events & EVENT_READ else 0) | (EPOLLOUT if events & EVENT_WRITE else 0)


def _ready_events(mask: int, wanted: int) -> int:
    """The EVENT_* of a poll mask: whatever is not plain input wakes writers, and the reverse."""
    ready = (EVENT_WRITE if mask & ~POLLIN else 0) | (EVENT_READ if mask & ~POLLOUT else 0)
    return ready & wanted


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
    """The registered files, by file object or descriptor."""

    def __init__(self, selector: "AioSelector") -> None:
        self._selector = selector

    def __len__(self) -> int:
        return len(self._selector._registrations)

    def __getitem__(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        try:
            return self._selector._lookup(fileobj).key
        except ValueError:
            raise KeyError(f"{fileobj!r} is not registered") from None

    def __iter__(self) -> Iterator["FileDescriptorLike"]:
        return iter(self._selector._registrations)


class AioSelector(selectors.BaseSelector):
    """A selector on AIO poll, for every file that epoll takes.

    nr_events: slots to ask of fs.aio-max-nr; more files than that are served through the epoll
        set.
    user_ring: as for Context.

    Like any selector it may be handed from thread to thread, but not be used by two at once
    (RuntimeError).  A file must be unregistered before it is closed: one closed while it is
    registered is never reported again, but stays open in the kernel until `unregister`.

    Raises OSError where the kernel gives no context or has no AIO poll; the text names the cause.
    """

    def __init__(self, nr_events: int = 512, *, user_ring: bool | None = None) -> None:
        self._registrations: dict[int, _Registration] = {}
        self._map: _Map | None = _Map(self)
        self._unarmed: dict[_Registration, None] = {}
        self._refused = self._overflowed = self._stale = 0
        try:
            with ExitStack() as undo:
                self._context = undo.enter_context(Context(nr_events, user_ring=user_ring))
                self._epoll = undo.enter_context(epoll())
                self._epoll_set = _Registration(
                    SelectorKey(self._epoll, self._epoll.fileno(), EVENT_READ, None)
                )
                # Proves that there is AIO poll, and io_cancel, without which a file once polled
                # could not be closed.
                self._context.submit([self._epoll_set.iocb])
                self._context.cancel(self._epoll_set.iocb)
                self._context.reap(1)
                undo.pop_all()
        except OSError:
            require_aio_poll()  # raises with the cause, where that is it
            raise
        # Armed by the first select and from then on, for the slot that an overflow will need.
        self._unarmed[self._epoll_set] = None

    def register(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> SelectorKey:
        """Registers a file for EVENT_READ, EVENT_WRITE or both.

        Raises ValueError for other events or what is not a file, KeyError if it is registered,
        OSError (EBADF) if it is not open, PermissionError if it can't be waited for, as epoll
        does for regular files.
        """
        self._check_open()
        if not events or events & ~(EVENT_READ | EVENT_WRITE):
            raise ValueError(f"events must be EVENT_READ, EVENT_WRITE or both, not {events!r}")
        fd = _fd_of(fileobj)
        if fd in self._registrations:
            raise KeyError(f"{fileobj!r} (file descriptor {fd}) is already registered")
        registration = _Registration(SelectorKey(fileobj, fd, events, data))
        if needs_epoll(fd):
            self._nest(registration)
        else:
            self._unarmed[registration] = None
        self._registrations[fd] = registration
        return registration.key

    def unregister(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        """Forgets a file; must come before the file is closed.  KeyError if not registered."""
        self._check_open()
        try:
            registration = self._lookup(fileobj)
        except ValueError:
            raise KeyError(f"{fileobj!r} is not registered") from None
        del self._registrations[registration.key.fd]
        self._disarm(registration)
        if registration.nested:
            try:
                self._epoll.unregister(registration.key.fd)
            except OSError:
                pass  # it was closed before
        return registration.key

    def modify(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> SelectorKey:
        """Changes what a file is waited for, or its data.  Raises as `register` does."""
        self._check_open()
        if not events or events & ~(EVENT_READ | EVENT_WRITE):
            raise ValueError(f"events must be EVENT_READ, EVENT_WRITE or both, not {events!r}")
        try:
            registration = self._lookup(fileobj)
        except ValueError:
            raise KeyError(f"{fileobj!r} is not registered") from None
        changed = events != registration.key.events
        registration.key = registration.key._replace(events=events, data=data)
        if changed and registration.nested:
            self._epoll.modify(registration.key.fd, _epoll_mask(events))
        elif changed:
            self._disarm(registration)
            registration.iocb = _poll_request(registration)
            self._unarmed[registration] = None
        return registration.key

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Waits until a file is ready, and answers all that are, as (key, events) pairs.

        timeout: seconds; None waits as long as it takes, zero or less does not wait.
        """
        self._check_open()
        self._context.adopt()
        deadline = None if timeout is None else time.monotonic() + timeout
        for event in self._context.reap(0):
            self._completed(event)
        while True:
            ready = self._collect(self._arm() + self._context.reap(0))
            remaining = None if deadline is None else deadline - time.monotonic()
            if ready or (remaining is not None and remaining <= 0):
                return ready
            if self._unarmed:
                continue  # what came was stale
            ready = self._collect(self._context.reap(1, timeout=remaining))
            if ready:
                return ready

    def get_map(self) -> Mapping["FileDescriptorLike", SelectorKey]:
        """The registered files; None once closed, as the standard library's selectors answer."""
        return self._map  # type: ignore[return-value]

    def close(self) -> None:
        """Cancels all and gives the slots back; takes some tens of milliseconds in the kernel."""
        if self._map is None:
            return
        self._map = None
        self._registrations.clear()
        self._unarmed.clear()
        self._context.close()
        self._epoll.close()

    def statistics(self) -> SelectorStatistics:
        """The counters; ValueError once closed."""
        self._check_open()
        return SelectorStatistics(
            registered=len(self._registrations),
            nested=sum(entry.nested for entry in self._registrations.values()),
            refused=self._refused,
            overflowed=self._overflowed,
            stale=self._stale,
            context=self._context.statistics(),
        )

    def _check_open(self) -> None:
        if self._map is None:
            raise ValueError("this AioSelector is closed")

    def _lookup(self, fileobj: "FileDescriptorLike") -> _Registration:
        """Raises KeyError if not registered, ValueError if it is no file."""
        try:
            return self._registrations[_fd_of(fileobj)]
        except ValueError:
            # A closed file object has lost its number, but can still be unregistered.
            for registration in self._registrations.values():
                if registration.key.fileobj is fileobj:
                    return registration
            raise
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None

    def _nest(self, registration: _Registration) -> None:
        """Moves a file into the nested epoll set."""
        self._epoll.register(registration.key.fd, _epoll_mask(registration.key.events))
        registration.nested = True

    def _disarm(self, registration: _Registration) -> None:
        self._unarmed.pop(registration, None)
        if registration.armed:
            registration.armed = False
            self._context.adopt()
            try:
                self._context.cancel(registration.iocb)
            except (OSError, ValueError):
                pass  # it has completed: its event will be dropped as stale

    def _completed(self, event: IoEvent) -> bool:
        """Marks the owner of an event as unarmed; False if it has no owner any more."""
        registration: _Registration = event.data
        if not registration.armed or event.obj is not registration.iocb:
            return False
        registration.armed = False
        self._unarmed[registration] = None
        return True

    def _collect(self, events: list[IoEvent]) -> list[tuple[SelectorKey, int]]:
        ready: list[tuple[SelectorKey, int]] = []
        for event in events:
            if not self._completed(event):
                continue
            if event.data is self._epoll_set:
                self._collect_nested(ready)
                continue
            key = event.data.key
            if mask := _ready_events(event.res, key.events):
                ready.append((key, mask))
            else:
                self._stale += 1
        return ready

    def _collect_nested(self, ready: list[tuple[SelectorKey, int]]) -> None:
        for fd, mask in self._epoll.poll(0, max(len(self._registrations), 1)):
            registration = self._registrations.get(fd)
            if registration is not None and registration.nested:
                events = _ready_events(mask, registration.key.events)
                if events:
                    ready.append((registration.key, events))

    def _arm(self) -> list[IoEvent]:
        """Submits all that is not armed; answers the events that were reaped to make room."""
        reaped: list[IoEvent] = []
        may_retry = True
        while self._unarmed:
            # The epoll set goes first: without a slot for it nothing could overflow into it.
            batch = sorted(self._unarmed, key=lambda entry: entry is not self._epoll_set)
            try:
                taken, refusal = self._context.submit([entry.iocb for entry in batch]), 0
            except SubmitError as error:
                taken, refusal = error.index, error.errno or 0
            for entry in batch[:taken]:
                entry.armed = True
                del self._unarmed[entry]
            if refusal == errno.EAGAIN:
                events = self._context.reap(0) if may_retry else []
                may_retry = False
                reaped += events
                if not events and batch[taken] is self._epoll_set:
                    reaped += self._evict()
                elif not events:
                    self._overflowed += len(batch) - taken
                    for entry in batch[taken:]:
                        self._move_to_epoll(entry)
            elif refusal == errno.EINVAL and batch[taken] is not self._epoll_set:
                self._refused += 1
                self._move_to_epoll(batch[taken])
            elif refusal == errno.EBADF:
                del self._unarmed[batch[taken]]  # closed behind our back: never ready again
            elif refusal:
                raise OSError(refusal, f"AIO poll of the epoll set: {os.strerror(refusal)}")
        return reaped

    def _evict(self) -> list[IoEvent]:
        """Frees one slot for the epoll set, whose own went to the reserve of another CPU."""
        victim = next((entry for entry in self._registrations.values() if entry.armed), None)
        if victim is None:
            raise OSError(errno.EAGAIN, "AIO poll: no slot is left for the epoll set")
        self._disarm(victim)
        self._move_to_epoll(victim)
        return self._context.reap(1)

    def _move_to_epoll(self, registration: _Registration) -> None:
        self._unarmed.pop(registration, None)
        try:
            self._nest(registration)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
