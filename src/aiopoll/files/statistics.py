"""The counters of files: the routes that requests have taken."""

from typing import NamedTuple


class FileStatistics(NamedTuple):
    """Counts since the file was opened, or of all files of an event loop.

    A request that changes its route is counted on both.
    """

    aio_reads: int
    """Reads submitted to the ring."""
    aio_writes: int
    """Writes submitted to the ring."""
    aio_syncs: int
    """fsyncs and fdatasyncs submitted to the ring."""
    inline_reads: int
    """Reads done from the page cache within the call."""
    thread_reads: int
    """Reads done by a thread."""
    thread_writes: int
    """Writes done by a thread."""
    thread_syncs: int
    """fsyncs and fdatasyncs done by a thread."""
    thread_calls: int
    """Other calls done by a thread: open, close, fallocate, truncate, …"""
    blocked: int
    """Requests that would have blocked on the ring or inline, and went to a thread."""
    bounced: int
    """Direct requests that went through an aligned buffer of the pool."""
    in_flight: int = 0
    """Requests in the kernel now: each holds a slot."""
    waiting: int = 0
    """Requests that wait to be submitted, now."""
    in_threads: int = 0
    """Requests and calls in threads now."""
