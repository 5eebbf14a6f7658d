"""The loops whose numbers an exporter shows, each by a name of its own.

Facts.  A monitoring system keeps a series for each name that it has ever seen.

Rule.  A loop is held weakly; its name is free again once it is closed or collected.  The numbers
that Python puts into names of threads are left out.

Why.  A program that runs a loop in a new thread for each request would make series without end.
"""

import asyncio
import os
import re
import threading
import weakref
from dataclasses import dataclass
from itertools import chain, count

from aiopoll.loop.event_loop import EventLoop
from aiopoll.loop.monitor.metrics import LoopMetrics

_NUMBERED = re.compile(r"^(Thread|ThreadPoolExecutor)-\d+(_\d+)?")


@dataclass(frozen=True, eq=False)
class Registered:
    """A loop, and the name that no other registered loop has."""

    name: str
    loop: "weakref.ref[EventLoop]"
    pid: int
    """The process that the loop is of."""


def loop_or_running(loop: EventLoop | None) -> EventLoop:
    """Returns the loop given, or the one that runs.

    Raises RuntimeError if none runs, TypeError for a loop of another kind.
    """
    found = asyncio.get_running_loop() if loop is None else loop
    if not isinstance(found, EventLoop):
        cls = type(found)
        raise TypeError(
            f"{cls.__module__}.{cls.__qualname__} has no metrics: run the program on an"
            " aiopoll.EventLoop (aiopoll.run, or `aiopoll run`)"
        )
    return found


def name_of_thread(loop: EventLoop) -> str:
    """Returns "main", or the name of the thread that runs the loop, or else of this thread."""
    ident = loop._thread_id or threading.get_ident()
    if ident == threading.main_thread().ident:
        return "main"
    names = (thread.name for thread in threading.enumerate() if thread.ident == ident)
    return _NUMBERED.sub(r"\1", next(names, "thread"))


def measure(loop: EventLoop) -> None:
    """Calls start_metrics() in the thread that runs the loop."""
    if loop._thread_id in (None, threading.get_ident()):
        loop.start_metrics()
    else:
        loop.call_soon_threadsafe(loop.start_metrics)


def _not_in(taken: set[str], name: str) -> str:
    """Returns the name, with a number if it is taken."""
    numbered = (f"{name}-{number}" for number in count(2))
    return next(free for free in chain([name], numbered) if free not in taken)


class ForkedLock:
    """A lock that is free in a forked child, where the thread that had it is no more."""

    def __init__(self) -> None:
        self._table_lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._table_lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._table_lock.release()

    def renew(self) -> None:
        """Makes it free."""
        self._table_lock = threading.Lock()


_locks: "weakref.WeakSet[ForkedLock]" = weakref.WeakSet()


def _renew_locks() -> None:
    for lock in _locks:
        lock.renew()


os.register_at_fork(after_in_child=_renew_locks)


class Loops:
    """Registered loops; any thread may call.  A forked child has none of its parent's."""

    def __init__(self) -> None:
        self._table_lock = ForkedLock()
        self._table: list[Registered] = []

    def _open(self) -> list[tuple[Registered, EventLoop]]:
        """The loops that are open; forgets the others."""
        loops = [(entry, entry.loop()) for entry in self._table]
        left = [
            (entry, loop)
            for entry, loop in loops
            if loop is not None and not loop.is_closed() and entry.pid == os.getpid()
        ]
        self._table = [entry for entry, _ in left]
        return left

    def add(self, loop: EventLoop, name: str | None = None) -> str:
        """Registers a loop, measures it, and returns its name; again with a name renames it.

        name: by default "main" or the name of its thread, with a number if that is taken.
        Raises ValueError for a name that another loop has, RuntimeError if the loop is closed.
        """
        measure(loop)
        with self._table_lock:
            known = {other: entry for entry, other in self._open()}
            entry = known.pop(loop, None)
            taken = {other.name for other in known.values()}
            if name is None:
                name = entry.name if entry is not None else _not_in(taken, name_of_thread(loop))
            elif name in taken:
                raise ValueError(f"another loop has the name {name!r}: choose one for each loop")
            self._table = [*known.values(), Registered(name, weakref.ref(loop), os.getpid())]
        return name

    def remove(self, loop: EventLoop) -> None:
        """Forgets a loop; nothing if it is not there."""
        with self._table_lock:
            self._table = [entry for entry, other in self._open() if other is not loop]

    def read(self) -> dict[Registered, LoopMetrics]:
        """Reads the numbers of the loops that are open."""
        with self._table_lock:
            loops = self._open()
        found = {}
        for entry, loop in loops:
            try:
                found[entry] = loop.metrics()
            except RuntimeError:
                if not loop.is_closed():  # its thread may have closed it meanwhile
                    raise
        return found
