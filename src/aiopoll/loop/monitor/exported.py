"""The numbers of a loop as monitoring systems get them: names, units, and the fields behind them.

A name is Prometheus' and OpenTelemetry's alike, by the translation of names between the two: the
counter `received` in bytes is `aiopoll.received` there, and `aiopoll_received_bytes_total` here.
"""

import enum
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aiopoll.loop.monitor.metrics import LoopMetrics


class Kind(enum.Enum):
    """What may be done with a number."""

    COUNTER = enum.auto()
    """It only grows: look at its rate."""
    AMOUNT = enum.auto()
    """Of this moment; those of several loops may be added up."""
    STATE = enum.auto()
    """Of this moment, and of one loop."""


@dataclass(frozen=True)
class Number:
    """A number of a loop, or several that differ in their attributes."""

    name: str
    kind: Kind
    unit: str
    """By UCUM, as in OpenTelemetry's conventions: "s", "By", "{request}", "1"."""
    help: str
    fields: Mapping[tuple[str, ...], str]
    """The values of the attributes, and the field of LoopMetrics that has the number."""
    attributes: tuple[str, ...] = ()

    def read(self, metrics: LoopMetrics) -> Iterator[tuple[tuple[str, ...], float]]:
        """Yields the values of the attributes, and the number; none for what the loop has not."""
        for values, field in self.fields.items():
            part, _, name = field.rpartition(".")
            owner = operator.attrgetter(part)(metrics) if part else metrics
            if owner is not None:
                yield values, getattr(owner, name) + 0  # a number, not a bool


def _counter(name: str, field: str, unit: str, help: str) -> Number:
    return Number(name, Kind.COUNTER, unit, help, {(): field})


def _amount(name: str, field: str, unit: str, help: str) -> Number:
    return Number(name, Kind.AMOUNT, unit, help, {(): field})


LOOP_TIME = Number(
    "loop.time",
    Kind.COUNTER,
    "s",
    "Time in callbacks (active), in polls (polling), asleep in the kernel (idle)",
    {
        ("active",): "timings.callbacks_seconds",
        ("polling",): "timings.polling_seconds",
        ("idle",): "timings.sleeping_seconds",
    },
    ("state",),
)

NUMBERS = (
    LOOP_TIME,
    _counter("iterations", "iterations", "{iteration}", "Iterations of the loop"),
    _counter("callbacks", "callbacks", "{callback}", "Callbacks that were run"),
    _amount("callbacks_ready", "ready", "{callback}", "Callbacks in the ready queue"),
    _amount("timers", "timers", "{timer}", "Timers to come"),
    _amount("tasks", "tasks", "{task}", "Tasks that have not ended"),
    _counter("tasks_created", "tasks_created", "{task}", "Tasks made by create_task()"),
    _amount("connections", "connections", "{connection}", "Transports of sockets"),
    _counter(
        "connections_made",
        "connections_made",
        "{connection}",
        "Stream connections that were made or accepted",
    ),
    _counter("received", "bytes_received", "By", "Bytes received by transports and sock_* methods"),
    _counter("sent", "bytes_sent", "By", "Bytes sent by transports and sock_* methods"),
    _counter("stalls", "stalls", "{stall}", "Callbacks that ran too long"),
    _counter("stalled", "stalled_seconds", "s", "Time in callbacks that ran too long"),
    _amount("thread_pool.threads", "thread_pool.threads", "{thread}", "Threads of the executor"),
    _amount("thread_pool.idle", "thread_pool.idle", "{thread}", "Its threads that wait for work"),
    _amount(
        "thread_pool.limit", "thread_pool.limit", "{thread}", "The most threads that it starts"
    ),
    _amount("thread_pool.queued", "thread_pool.queued", "{call}", "Calls that wait for a thread"),
    _amount("watched_files", "reactor.watched", "{file}", "Files watched"),
    _amount(
        "epoll_set.files", "reactor.in_epoll", "{file}", "Of those, the files in the epoll set"
    ),
    Number(
        "epoll_set.used",
        Kind.STATE,
        "1",
        "Whether the loop sleeps in the epoll set",
        {(): "reactor.uses_set"},
    ),
    _counter("epoll_set.moves", "reactor.moves", "{move}", "Times that this has changed"),
    _counter("epoll_set.rebuilt", "reactor.rebuilt", "{set}", "Epoll sets made anew"),
    _counter("sleeps", "reactor.sleeps", "{sleep}", "Iterations that waited in the kernel"),
    _counter("wakes", "reactor.wakes", "{wake}", "Times that another thread woke the loop"),
    _counter(
        "stale_events", "reactor.stale", "{event}", "Events dropped because nothing was ready"
    ),
    _counter("refused_files", "reactor.refused", "{file}", "Files that AIO poll refused"),
    _counter(
        "overflowed_files", "reactor.overflowed", "{file}", "Files for which no slot was left"
    ),
    _amount("slots", "reactor.nr_events", "{slot}", "Slots taken of fs.aio-max-nr"),
    _amount("requests.in_flight", "reactor.in_flight", "{request}", "Requests that hold a slot"),
    _counter(
        "requests.submitted", "reactor.submitted", "{request}", "Requests that the kernel took"
    ),
    _counter("requests.completed", "reactor.completed", "{request}", "Events reaped"),
    _counter("requests.cancelled", "reactor.cancelled", "{request}", "Requests cancelled"),
    Number(
        "system_calls",
        Kind.COUNTER,
        "{call}",
        "System calls of AIO",
        {("io_submit",): "reactor.submit_calls", ("io_getevents",): "reactor.getevents_calls"},
        ("call",),
    ),
    _counter(
        "ring_reaps",
        "reactor.ring_reaps",
        "{reap}",
        "Times that events were taken from the ring without a system call",
    ),
    _counter("trials", "reactor.tried", "{read}", "Busy connections read before they were armed"),
    _counter("trials_found", "reactor.found", "{read}", "Of those, the ones with data"),
    _counter("busy_polls", "reactor.busy_polls", "{poll}", "Looks at the ring before a sleep"),
    _counter(
        "busy_poll_hits", "reactor.busy_poll_hits", "{poll}", "Of those, the ones with an event"
    ),
    _counter("more_sends", "reactor.more_sends", "{write}", "Writes held back for the next one"),
    _counter(
        "pushes", "reactor.pushes", "{callback}", "Callbacks that ended with writes held back"
    ),
    Number(
        "file.requests",
        Kind.COUNTER,
        "{request}",
        "Requests of files by their route",
        {
            ("read", "ring"): "files.aio_reads",
            ("read", "inline"): "files.inline_reads",
            ("read", "thread"): "files.thread_reads",
            ("write", "ring"): "files.aio_writes",
            ("write", "thread"): "files.thread_writes",
            ("sync", "ring"): "files.aio_syncs",
            ("sync", "thread"): "files.thread_syncs",
            ("other", "thread"): "files.thread_calls",
        },
        ("operation", "route"),
    ),
    _counter(
        "file.requests_blocked",
        "files.blocked",
        "{request}",
        "Requests that would have blocked, and went to a thread",
    ),
    _counter(
        "file.requests_bounced",
        "files.bounced",
        "{request}",
        "Direct requests that went through an aligned buffer",
    ),
    _amount("file.requests_in_flight", "files.in_flight", "{request}", "Requests in the kernel"),
    _amount("file.requests_waiting", "files.waiting", "{request}", "Requests to be submitted"),
    _amount("file.requests_in_threads", "files.in_threads", "{request}", "Requests in threads"),
)
