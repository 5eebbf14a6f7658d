"""What was seen of a loop that is stuck; the watchdog makes these."""

from types import CodeType
from typing import Any, NamedTuple


class Sample(NamedTuple):
    """What the loop's thread did at a moment, as /proc has it."""

    call: str | None
    """The system call that it waits in; None while it runs, and where that is unknown."""
    runs: bool
    """Whether it is on a CPU, or waits for one."""
    futex: tuple[int, int] | None
    """In futex(2): the address, and how often the thread has begun to wait."""
    file: str
    """What the descriptor of the call is, as /proc/self/fd has it; or ""."""
    unknown: str
    """Why the call is unknown; or ""."""


Frames = list[tuple[CodeType, int | None]]
"""A stack with its lines, the innermost first."""


class Observation(NamedTuple):
    """A stall, or the end of one."""

    seconds: float
    """How long it has lasted; at its end, all of it."""
    gil_late: bool
    """Whether the reporter has waited long for the GIL: a thread has kept it."""
    ended: bool
    seen: bool
    """Whether an observation of the stall itself has come before its end."""
    gil_kept: bool
    """Whether the stack was dumped without the GIL, which was not to be had."""
    in_poll: bool
    """Whether the loop was between its callbacks."""
    before: Sample
    """As the limit had passed."""
    now: Sample | None
    """While this thread had the GIL; None once the stall has ended."""
    frames: Frames
    """The loop's stack; empty where it has ended."""
    task: Any
    """The running task; None for none, and where the stall has ended."""
    others: list[tuple[int, Frames]]
    """The stacks of other threads by their number, where the loop waits for a lock."""
    dump: str
    """The loop's stack as text, taken without the GIL; or ""."""
    all_dumped: str
    """Those of all threads, where another one keeps the GIL; or ""."""
    dump_error: int
    """The errno of the dump: ENOSYS where this Python has none."""
