"""The counters of a Context."""

from typing import NamedTuple


class ContextStatistics(NamedTuple):
    """Counts since the Context was made; `in_flight` is of this moment."""

    nr_events: int
    """The slots that io_setup was asked for, and that count in fs.aio-nr."""
    ring_nr: int
    """Length of the mapped ring in events; 0 where it is reaped by system call."""
    in_flight: int
    """Requests submitted whose event has not been reaped: each holds a slot."""
    submitted: int
    """Requests that the kernel took."""
    refused: int
    """Times that io_submit stopped at a request with an error."""
    completed: int
    """Events reaped."""
    cancelled: int
    """Requests for which io_cancel succeeded."""
    submit_calls: int
    """io_submit system calls."""
    getevents_calls: int
    """io_getevents and io_pgetevents system calls."""
    ring_reaps: int
    """Times that events were taken from the ring without a system call."""
