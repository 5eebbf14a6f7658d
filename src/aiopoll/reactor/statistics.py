"""The counters of a reactor, and so of an event loop."""

import warnings
from typing import NamedTuple


class ReactorStatistics(NamedTuple):
    """Counts since the loop was made, unless said to be of this moment.

    All from `stale` on are of the ring, and 0 on the epoll backend.
    """

    backend: str
    """"aio" or "epoll"."""
    watched: int
    """Files watched now."""
    in_epoll: int
    """Of those, the files in the epoll set."""
    iterations: int
    """Iterations of the loop."""
    sleeps: int
    """Iterations that waited in the kernel."""
    wakes: int
    """Times that another thread woke the loop through its eventfd."""
    rebuilt: int = 0
    """Times that the epoll set was made anew to lose closed files that a duplicate kept in it."""
    stale: int = 0
    """Events dropped because nothing was ready when they were looked at."""
    refused: int = 0
    """Times that AIO poll refused a file, which went to the epoll set."""
    overflowed: int = 0
    """Times that a file went to the epoll set because no slot was left."""
    nr_events: int = 0
    """Slots taken of fs.aio-max-nr."""
    in_flight: int = 0
    """Requests submitted whose event has not been reaped, now: each holds a slot."""
    submitted: int = 0
    """Requests that the kernel took."""
    completed: int = 0
    """Events reaped."""
    cancelled: int = 0
    """Requests cancelled because their file was not to be watched any more."""
    submit_calls: int = 0
    """io_submit system calls."""
    getevents_calls: int = 0
    """io_getevents and io_pgetevents system calls."""
    ring_reaps: int = 0
    """Times that events were taken from the ring without a system call."""
    user_ring: bool = False
    """Whether events are taken from the mapped ring."""
    tried: int = 0
    """Busy connections that were read again before they were armed again."""
    found: int = 0
    """Of those, the ones that had something to read."""
    busy_polls: int = 0
    """Times that the loop looked at the ring for a while before it slept."""
    busy_poll_hits: int = 0
    """Of those, the ones that an event ended."""
    uses_set: bool = False
    """Whether the loop has its files in the epoll set, and sleeps there, now; with "auto" only."""
    moves: int = 0
    """Times that this has become true or false."""
    more_sends: int = 0
    """Writes that the kernel was asked to hold back for the next one of the callback: MSG_MORE."""
    pushes: int = 0
    """Times that a callback ended while the kernel held its writes back."""

    @property
    def nested(self) -> int:
        """Deprecated since 0.2: the name of `in_epoll` in 0.1."""
        warn_of_deprecated("ReactorStatistics.nested", "it is `in_epoll` now")
        return self.in_epoll

    @property
    def turns(self) -> int:
        """Deprecated since 0.2: the name of `iterations` in 0.1."""
        warn_of_deprecated("ReactorStatistics.turns", "it is `iterations` now")
        return self.iterations


def warn_of_deprecated(name: str, instead: str) -> None:
    """Warns the caller of the property that calls this."""
    text = f"{name} is deprecated since aiopoll 0.2: {instead}"
    warnings.warn(text, DeprecationWarning, stacklevel=3)
