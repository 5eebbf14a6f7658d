"""Where a thread is: inside a world, and on which of its hosts, or outside.

Rule: one world at a time runs in a process. A thread is inside while it runs the code of a host:
the caller of `run` is, and so are the threads that the world starts. Every other thread of the
process is outside, and the ordinary names mean there what they always mean.
"""

from __future__ import annotations

import _thread
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .host import Host
    from .world import World

get_ident: Callable[[], int] = _thread.get_ident


class Escaped(RuntimeError):
    """The program asked for a thing of the real machine: the seed does not decide its result.

    Where a loop would only log it, as of a task that is not awaited, it ends the run.
    """


class _Place:
    """The world that runs in this process, if one does."""

    __slots__ = ("caller", "threads", "world")

    def __init__(self) -> None:
        self.world: World | None = None
        self.threads: set[int] = set()
        # The thread that runs the world, and gets what comes of it.
        self.caller: int = 0


place: _Place = _Place()


def world() -> World | None:
    """Return the world that the calling thread is inside of, or None."""
    return place.world if get_ident() in place.threads else None


def host() -> Host | None:
    """Return the host whose code the calling thread runs, or None outside of a world."""
    if get_ident() not in place.threads:
        return None
    found = place.world
    if found is None:
        return None
    # Before the first host there is no process either.
    process = getattr(found.sched.current, "process", None)
    machine: Host | None = None if process is None else process.machine
    return machine


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Let the simulator's own code use the real machine: the names are the real ones in it."""
    ident = get_ident()
    was_inside = ident in place.threads
    place.threads.discard(ident)
    try:
        yield
    finally:
        if was_inside:
            place.threads.add(ident)


# For programs: they work outside of a world too, and then do nothing.


def current_host() -> Host:
    """Return the host whose code calls this. RuntimeError outside of a world."""
    found = host()
    if found is None:
        raise RuntimeError("no host: this code does not run in a simulated world")
    return found


def note(event: str, **data: object) -> None:
    """Record something for the report and the pages of a run; outside of one, do nothing."""
    found = world()
    if found is not None:
        found.note(event, **data)


def buggify(site: str, probability: float = 0.25) -> bool:
    """Return whether to misbehave at `site`, as the program may; outside of a run, False.

    A quarter of the runs have the site of a host at all; then it fires with `probability`.
    """
    found = world()
    return found is not None and found.buggify(f"{current_host().name} {site}", probability)
