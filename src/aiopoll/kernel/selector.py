"""No Linux file: a selector whose readiness comes from an in-process kernel's epoll.

Facts: asyncio asks a selector for every event that can happen, and asks nothing else. With this
one it waits on the virtual clock: a timeout ends at exactly the time it names.
Rule: level-triggered, one epoll set, POLLERR and POLLHUP count as ready for both directions.
Left out: selectors shared between threads of the host.
"""

from __future__ import annotations

import math
import selectors
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLIN,
    EPOLLOUT,
    NSEC_PER_SEC,
)

if TYPE_CHECKING:
    from .kernel import Kernel

Ready = list[tuple[selectors.SelectorKey, int]]


def _fileno(fileobj: Any) -> int:
    """Return the descriptor of `fileobj`. ValueError if it has none."""
    if isinstance(fileobj, int):
        fd = fileobj
    else:
        try:
            fd = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fileobj!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


class _Map(Mapping[Any, selectors.SelectorKey]):
    """Registered files by descriptor or by object."""

    def __init__(self, selector: KernelSelector) -> None:
        self._selector = selector

    def __len__(self) -> int:
        return len(self._selector.keys)

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        fd = self._selector.lookup(fileobj)
        key = self._selector.keys.get(fd)
        if key is None:
            raise KeyError(f"{fileobj!r} is not registered")
        return key

    def __iter__(self) -> Any:
        return iter(self._selector.keys)


class KernelSelector(selectors.BaseSelector):
    """A `selectors.BaseSelector` over the descriptors of `kernel`."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._epfd = kernel.epoll_create1()
        self.keys: dict[int, selectors.SelectorKey] = {}
        self._map: _Map | None = _Map(self)

    def fileno(self) -> int:
        """Return the descriptor of the epoll set."""
        return self._epfd

    def lookup(self, fileobj: Any) -> int:
        """Return the descriptor; for an object that was closed meanwhile, the one it had."""
        try:
            return _fileno(fileobj)
        except ValueError:
            for key in self.keys.values():
                if key.fileobj is fileobj:
                    return key.fd
            raise

    @staticmethod
    def _epoll_events(events: int) -> int:
        if not events or events & ~(selectors.EVENT_READ | selectors.EVENT_WRITE):
            raise ValueError(f"Invalid events: {events!r}")
        mask = EPOLLIN if events & selectors.EVENT_READ else 0
        return mask | (EPOLLOUT if events & selectors.EVENT_WRITE else 0)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch `fileobj`. ValueError for bad events or objects, KeyError if watched already."""
        mask = self._epoll_events(events)
        fd = self.lookup(fileobj)
        if fd in self.keys:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        self._kernel.epoll_ctl(self._epfd, EPOLL_CTL_ADD, fd, mask)
        key = self.keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Stop watching `fileobj`, which may be closed. KeyError if it is not watched."""
        fd = self.lookup(fileobj)
        key = self.keys.pop(fd, None)
        if key is None:
            raise KeyError(f"{fileobj!r} is not registered")
        try:
            self._kernel.epoll_ctl(self._epfd, EPOLL_CTL_DEL, fd)
        except OSError:
            # Closed before it was unregistered: the item went with the file.
            pass
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Change events and data. KeyError if not watched, ValueError for bad events."""
        fd = self.lookup(fileobj)
        key = self.keys.get(fd)
        if key is None:
            raise KeyError(f"{fileobj!r} is not registered")
        if events != key.events:
            mask = self._epoll_events(events)
            try:
                self._kernel.epoll_ctl(self._epfd, EPOLL_CTL_MOD, fd, mask)
            except OSError:
                del self.keys[fd]
                raise
        key = self.keys[fd] = key._replace(events=events, data=data)
        return key

    def select(self, timeout: float | None = None) -> Ready:
        """Return the ready keys with their events. `timeout` is in seconds; None: for ever."""
        clock = self._kernel.sched.clock
        timeout_ns = None if timeout is None else max(math.ceil(timeout * NSEC_PER_SEC), 0)
        deadline_ns = None if timeout_ns is None else clock.now_ns + timeout_ns
        while True:
            try:
                events = self._kernel.epoll_wait(self._epfd, max(len(self.keys), 1), timeout_ns)
                break
            except InterruptedError:
                # PEP 475: a handler that raises nothing does not end the wait.
                if deadline_ns is not None:
                    timeout_ns = max(deadline_ns - clock.now_ns, 0)
        return self.ready(events)

    def ready(self, events: list[tuple[int, int]]) -> Ready:
        """Return the keys that epoll reports, each with what is ready of it."""
        ready: Ready = []
        for fd, mask in events:
            key = self.keys.get(fd)
            if key is None:
                continue
            found = selectors.EVENT_WRITE if mask & ~EPOLLIN else 0
            found |= selectors.EVENT_READ if mask & ~EPOLLOUT else 0
            if found & key.events:
                ready.append((key, found & key.events))
        return ready

    def close(self) -> None:
        """Close the set; the watched files stay open."""
        if self._map is not None:
            self._kernel.close(self._epfd)
            self.keys.clear()
            self._map = None

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """Return the key of `fileobj`. RuntimeError if closed, KeyError if not watched."""
        if self._map is None:
            raise RuntimeError("Selector is closed")
        return self._map[fileobj]

    def get_map(self) -> Any:
        """Return the registered files, or None once closed."""
        return self._map
