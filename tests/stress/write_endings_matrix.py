"""The fates of written data: the place of the write, the transport, and the ending.

A scenario is one point of the matrix.  EXCLUSIONS leaves out the impossible points, each with its
reason.
"""

import itertools
import os
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.loops import IS_3_11_2

Patterns = tuple[tuple[dict[str, tuple[str, ...]], str], ...]
"""Each has values of a scenario's fields, and the reason for the scenarios that match."""

TCP, UNIX, TLS, PIPE = TRANSPORTS = ("tcp", "unix", "tls", "pipe")

CALLBACKS_OF_READING = ("data_received", "buffer_updated", "eof_received")
CALLBACKS_OF_WRITING = ("resume_writing", "pause_writing")
OUTSIDE = ("connection_lost", "call_soon", "task", "call_soon_threadsafe")
PLACES = ("connection_made", *CALLBACKS_OF_READING, *CALLBACKS_OF_WRITING, *OUTSIDE)
"""The places of the write; connection_lost is that of another connection."""

STATES = ("fresh", "warm", "unread")
"""unread: warm, and the peer has sent data that stays unread, so that the end is a reset."""

WRITES = (1, 3)

RAISING = ("ValueError", "OSError", "CancelledError", "BaseException")
INTERRUPTING = ("KeyboardInterrupt", "KeyboardInterrupt, loop goes on", "SystemExit")
DYING_AT_ONCE = ("os._exit", "exec", "os.abort", "SIGKILL")
DYING = ("sys.exit", *DYING_AT_ONCE)
FORKING = (
    "fork, child exits",
    "fork, child raises SystemExit",
    "fork, child returns",
    "fork, parent exits",
)
STOPPING = ("stop", "stop, loop closed", "stop, loop collected")
TRANSPORT_ENDING = ("close", "abort", "transport collected")
OVERTAKING = ("shutdown", "os.write", "dup", "subprocess")
"""The next action on the same descriptor, past the transport."""

WITHOUT_LOOP = (
    "KeyboardInterrupt",
    "SystemExit",
    "fork, parent exits",
    "stop",
    "stop, loop closed",
    "blocks",
)
"""Endings that leave the process alive, and its loop at rest."""

ENDINGS = (
    "return",
    *RAISING,
    *INTERRUPTING,
    "KeyboardInterrupt in the next callback",
    *DYING,
    *FORKING,
    *STOPPING,
    *TRANSPORT_ENDING,
    "task cancelled",
    "blocks",
    *OVERTAKING,
)

ABANDONING = (
    "sys.exit",
    "fork, child raises SystemExit",
    "stop, loop closed",
    "stop, loop collected",
)
"""Endings that drop an unfinished task."""

STAYING_OPEN = (
    "return",
    *INTERRUPTING,
    "KeyboardInterrupt in the next callback",
    *(ending for ending in FORKING if ending != "fork, parent exits"),
    "stop",
    "stop, loop closed",
    "task cancelled",
    "blocks",
    *OVERTAKING,
)

SANITIZED = os.environ.get("AIOPOLL_SANITIZED") == "1"
UNDER_ASAN: Patterns = (
    (
        {"place": ("call_soon_threadsafe",), "ending": FORKING},
        "AddressSanitizer of GCC 12 has no fork handlers: a child that is forked while a thread"
        " begins or ends hangs in malloc, one in a thousand, in plain CPython too",
    ),
)
EXCLUSIONS: Patterns = (
    (
        {"transport": (PIPE,), "place": CALLBACKS_OF_READING},
        "the transport of a pipe's writing end reads nothing",
    ),
    (
        {"transport": (UNIX, PIPE), "state": ("warm", "unread")},
        "only TCP is sent with MSG_MORE",
    ),
    (
        {"place": ("connection_made",), "state": ("warm", "unread")},
        "nothing was written before connection_made()",
    ),
    (
        {"place": ("eof_received",), "state": ("unread",)},
        "the peer has said that it sends no more",
    ),
    (
        {"place": CALLBACKS_OF_WRITING, "state": ("unread",)},
        "what fills the kernel's buffer has not all reached the peer: a reset drops asyncio's, too",
    ),
    (
        {"state": ("unread",), "ending": STAYING_OPEN},
        "the connection stays open: what nobody reads changes nothing",
    ),
    (
        {
            "place": tuple(place for place in PLACES if place != "task"),
            "ending": ("task cancelled",),
        },
        "only a task is cancelled",
    ),
    (
        {
            "place": tuple(place for place in PLACES if place not in OUTSIDE[1:]),
            "ending": ("KeyboardInterrupt in the next callback",),
        },
        "nobody says which callback comes next, but for those that the loop was given itself",
    ),
    (
        {"transport": (PIPE,), "ending": ("transport collected",)},
        "the loop watches a pipe for its reader's end, and so keeps its transport",
    ),
    (
        {"transport": (TLS,), "ending": OVERTAKING},
        "what goes past TLS is no part of what it carries",
    ),
    (
        {"transport": (PIPE,), "ending": ("shutdown",)},
        "a pipe has one direction",
    ),
    (
        {"place": ("pause_writing",), "ending": (*OVERTAKING, *WITHOUT_LOOP)},
        "the kernel's buffer is full: with asyncio, too, what was written waits for the loop",
    ),
)

ON_3_11_2: Patterns = (
    (
        {"place": ("connection_made",), "ending": ("transport collected",)},
        "asyncio reads before connection_made() has returned, and keeps the transport for that",
    ),
)

MAY_LOSE: Patterns = (
    (
        {"transport": (TCP, TLS), "state": ("unread",), "ending": DYING_AT_ONCE},
        "TCP resets a connection that is closed with input unread: what MSG_MORE holds is dropped",
    ),
)
"""Where the last writes of the last callback may be missing, for as long as writes are gathered."""


class Scenario(NamedTuple):
    transport: str
    place: str
    ending: str
    state: str
    writes: int

    @property
    def accepted(self) -> bool:
        """Whether its connection is accepted or made by the loop: each is half of the matrix.

        A scenario that fills the kernel's buffer needs a small one, which a listener passes on.
        And a coroutine that connects closes its transport some time after it is dropped.
        """
        if self.place in CALLBACKS_OF_WRITING:
            return True
        if self.place == "connection_made" and self.ending in ABANDONING:
            return True
        names = f"{self.transport} {self.place} {self.ending} {self.state} {self.writes}"
        return zlib.crc32(names.encode()) % 2 == 0

    def __str__(self) -> str:
        return f"{self.place}, {self.state}, {self.writes} written"


def match(scenario: Scenario, patterns: Patterns) -> str | None:
    """The reason that stands with the first pattern that fits."""
    for pattern, reason in patterns:
        if all(getattr(scenario, field) in values for field, values in pattern.items()):
            return reason
    return None


def reason_not_to_run(scenario: Scenario) -> str | None:
    """Why there is no such scenario; None if there is."""
    more = (UNDER_ASAN if SANITIZED else ()) + (ON_3_11_2 if IS_3_11_2 else ())
    return match(scenario, EXCLUSIONS + more)


def scenarios(transport: str, ending: str) -> Iterator[Scenario]:
    """Those of one transport and one ending."""
    for place, state, writes in itertools.product(PLACES, STATES, WRITES):
        scenario = Scenario(transport, place, ending, state, writes)
        if reason_not_to_run(scenario) is None:
            yield scenario
