"""Stalls of a loop: what they are, how they are logged, and how often each place had one."""

import enum
import math
import os
import sys
import threading
import traceback
from asyncio.log import logger
from collections.abc import Callable
from dataclasses import dataclass, field
from traceback import FrameSummary
from typing import Any

from aiopoll.loop.monitor.observation import Observation, Sample
from aiopoll.loop.monitor.stacks import (
    NOWHERE,
    Stack,
    dumped_stack,
    format_place,
    place_of,
    stack_of,
    without_loop,
)

LIMIT = "AIOPOLL_WATCH_STALLS"
LIMIT_MIN = 0.01
LIMIT_MAX = 86400.0
PLACES_MAX = 1000
"""Places that are kept: code that is made at run time may have any number."""

_HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


class StallKind(enum.Enum):
    """What the loop's thread does while it is stuck."""

    PYTHON = "it runs Python code"
    C_CODE = "it runs C code, outside the GIL"
    SYSTEM_CALL = "it waits in {call}, outside the GIL"
    LOCK = "it waits for a lock"
    KEEPS_GIL = "it keeps the GIL"
    WAITS_FOR_GIL = "it waits for the GIL, which another thread keeps"
    POLL = "the loop itself waits in {call}"
    UNKNOWN = "what it does cannot be seen"


@dataclass(frozen=True)
class Stall:
    """A callback that has kept the loop for longer than the limit; str() is what the log shows."""

    place: FrameSummary
    """The innermost line of the program: filename, lineno, name, line."""
    stack: Stack
    """The stack while it was stuck, from what the loop has called to the innermost."""
    task: str | None
    """The name of the running task; None for a plain callback."""
    coroutine: str | None
    """The name of the task's coroutine."""
    made: tuple[str, int, str] | None
    """Where the task was made: file, line, function; None if unknown."""
    callback: str | None
    """The function that the loop has called; None where that is not of Python."""
    between_callbacks: bool
    """Whether the loop has called none: it polls, or waits for the GIL after a sleep."""
    duration: float
    """Seconds, so far."""
    kind: StallKind
    system_call: str | None
    """The system call that the thread waits in; None where it runs, or that is unknown."""
    file: str
    """What the call's descriptor is, as /proc/self/fd has it; or ""."""
    count: int
    """How many stalls there were at the place, with this one."""
    note: str = ""
    """What could not be found out, and why; or ""."""
    threads: str = field(default="", repr=False)
    """The stacks of other threads, where the loop waits for one of them; or ""."""

    def __str__(self) -> str:
        by = "by a callback" if self.place is NOWHERE else "by a callback in C"
        if self.callback is not None:
            by = f"by the callback {self.callback}"
        if self.between_callbacks:
            by = "between two callbacks"
        elif self.task is not None:
            by = f"by the task {self.task!r}"
            if self.made is not None:
                by += f" (made at {self.made[0]}:{self.made[1]} in {self.made[2]})"
        lines = [
            f"The event loop has been blocked for {self.duration:.2f} s {by}:"
            f" {format_place(self.place)}; {self._doing()}"
        ]
        if self.stack:
            lines.append("Stack, most recent call last:")
            lines += traceback.format_list(list(self.stack))
        if self.threads:
            lines.append(self.threads)
        return "\n".join(line.rstrip("\n") for line in lines)

    def _doing(self) -> str:
        text = self.kind.value.format(call=self.system_call)
        if self.system_call and self.kind in (StallKind.KEEPS_GIL, StallKind.UNKNOWN):
            text += f", in {self.system_call}"
        if self.file:
            text += f", of {self.file}"
        return f"{text} ({self.note})" if self.note else text


@dataclass(frozen=True)
class StallTotal:
    """All stalls at a place."""

    place: FrameSummary
    kind: StallKind
    """Of the last one."""
    count: int
    seconds: float
    """How long they have lasted; of each, up to a limit is not seen."""


StallHandler = Callable[[Stall], object]


def stall_limit(limit: float | None) -> float | None:
    """The limit in seconds: the argument, or AIOPOLL_WATCH_STALLS; None where none is watched.

    Raises TypeError or ValueError for what is no number from 0.01 on; 0 is None.
    """
    source: str = "watch_stalls"
    if limit is None:
        text = os.environ.get(LIMIT)
        if not text:
            return None
        source = LIMIT
        try:
            limit = float(text)
        except ValueError:
            raise ValueError(f"{LIMIT} must be a number of seconds, not {text!r}") from None
    if isinstance(limit, bool) or not isinstance(limit, (int, float)):
        raise TypeError(f"{source} must be a number of seconds or None, not {limit!r}")
    if limit == 0:
        return None
    if math.isnan(limit) or not LIMIT_MIN <= limit <= LIMIT_MAX:
        raise ValueError(
            f"{source} must be from {LIMIT_MIN} to {LIMIT_MAX:.0f} seconds, or 0 for none,"
            f" not {limit!r}"
        )
    return float(limit)


def check_handler(handler: StallHandler | None) -> None:
    """Raises TypeError for what cannot be called."""
    if handler is not None and not callable(handler):
        raise TypeError(f"on_stall must be a function that takes a Stall, not {handler!r}")


RUNNING = (StallKind.PYTHON, StallKind.C_CODE, StallKind.WAITS_FOR_GIL)
"""Kinds that are in no call of their own: the thread waits for the GIL while it is looked at."""


def kind_of(seen: Observation, in_poll: bool) -> StallKind:
    """What a stall is, by what its thread did before and while another thread had the GIL."""
    before, now = seen.before, seen.now
    # A lock is waited for without a look now and then, as the GIL is.
    waits = before.futex is not None and (now is None or now.futex != before.futex)
    if waits and (seen.all_dumped or in_poll or seen.gil_late):
        return StallKind.WAITS_FOR_GIL
    if now is None:
        return StallKind.KEEPS_GIL if seen.gil_kept else StallKind.UNKNOWN
    if in_poll and before.call is not None and before.futex is None:
        return StallKind.POLL
    if now.futex is not None:
        if now.futex == before.futex:
            return StallKind.LOCK
        return StallKind.KEEPS_GIL if seen.gil_kept else StallKind.PYTHON
    if now.call is not None:
        return StallKind.SYSTEM_CALL
    if now.runs:
        return StallKind.C_CODE if _HAS_GIL else StallKind.PYTHON
    return StallKind.KEEPS_GIL if seen.gil_kept else StallKind.UNKNOWN


def sample_of(seen: Observation, kind: StallKind) -> Sample:
    """The sample that says what the thread does."""
    if seen.now is None or kind in (StallKind.KEEPS_GIL, StallKind.POLL):
        return seen.before
    return seen.now


def note_of(seen: Observation, kind: StallKind) -> str:
    notes = []
    if kind is StallKind.UNKNOWN and seen.now is None:
        notes.append("it has ended before its stack could be read")
    elif kind is StallKind.UNKNOWN:
        notes.append(sample_of(seen, kind).unknown)
    if seen.dump_error and not seen.frames:
        notes.append(f"no stack without the GIL: {os.strerror(seen.dump_error)}")
    return "; ".join(note for note in notes if note)


def stack_seen(seen: Observation) -> Stack:
    """The stack of the time of the stall, whichever way it was to be had."""
    dumped = dumped_stack(seen.dump)
    stack = stack_of(seen.frames)
    if dumped and stack:
        # The dump cuts names; where both are of the same lines the other is better.
        same = [frame.lineno for frame in dumped[-2:]] == [frame.lineno for frame in stack[-2:]]
        return stack if same else dumped
    return stack or dumped


def threads_seen(seen: Observation, kind: StallKind) -> str:
    """The stacks of the threads, of which one may have what the loop waits for."""
    if kind not in (StallKind.LOCK, StallKind.WAITS_FOR_GIL):
        return ""
    if seen.all_dumped:
        return seen.all_dumped.rstrip()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = []
    for ident, frames in seen.others:
        lines.append(f"Thread {names.get(ident, ident)!r}, most recent call last:\n")
        lines += traceback.format_list(list(stack_of(frames)))
    return "".join(lines).rstrip()


@dataclass
class _Total:
    place: FrameSummary
    kind: StallKind
    count: int = 0
    seconds: float = 0.0


class StallLog:
    """The stalls of a loop; called by the watchdog's reporter with each that was seen."""

    def __init__(self) -> None:
        self.handler: StallHandler | None = None
        self._totals: dict[tuple[str, int | None, str], _Total] = {}
        self._current: _Total | None = None

    def __call__(self, loop: Any, seen: Observation | Exception) -> None:
        try:
            if isinstance(seen, Exception):
                logger.warning("Stalls are not reported: %s", seen)
            elif not (seen.ended and seen.seen):
                self._report(loop, seen)
            if isinstance(seen, Observation) and seen.ended:
                self._end(seen.seconds)
        except Exception:
            logger.exception("Exception in the report of a stall")

    def totals(self) -> list[StallTotal]:
        found = [
            StallTotal(total.place, total.kind, total.count, total.seconds)
            for total in list(self._totals.values())
        ]
        return sorted(found, key=lambda total: total.seconds, reverse=True)

    def _report(self, loop: Any, seen: Observation) -> None:
        task = seen.task
        # A task runs: other code than the loop's runs the callbacks (nest_asyncio).
        in_poll = seen.in_poll and task is None
        kind = kind_of(seen, in_poll)
        whole = stack_seen(seen)
        stack = without_loop(whole)
        place = place_of(stack or whole[-1:])
        total = self._counted(place, kind)
        loop.stall_count += 1
        seen_as = {"place": format_place(place), "kind": kind.name, "seconds": seen.seconds}
        loop._trace_instant("stall", seen_as)
        handler = self.handler
        if handler is None and total.count > 1:
            return
        sample = sample_of(seen, kind)
        stall = Stall(
            place=place,
            stack=stack,
            task=None if task is None else task.get_name(),
            coroutine=None if task is None else getattr(task.get_coro(), "__qualname__", None),
            made=None if task is None else loop._task_place(task),
            callback=stack[0].name if stack and not in_poll else None,
            between_callbacks=in_poll,
            duration=seen.seconds,
            kind=kind,
            system_call=None if kind in RUNNING else sample.call,
            file="" if kind in RUNNING else sample.file,
            count=total.count,
            note=note_of(seen, kind),
            threads=threads_seen(seen, kind),
        )
        if handler is None:
            logger.warning("%s", stall)
            return
        try:
            handler(stall)
        except BaseException as error:
            logger.exception("Exception in the handler of stalls, %r, for: %s", handler, stall)
            if not isinstance(error, Exception):
                raise

    def _counted(self, place: FrameSummary, kind: StallKind) -> _Total:
        key = (place.filename, place.lineno, place.name)
        total = self._totals.get(key)
        if total is None:
            total = self._totals[key] = _Total(place, kind)
            if len(self._totals) > PLACES_MAX:
                del self._totals[next(iter(self._totals))]
        total.kind = kind
        total.count += 1
        self._current = total
        return total

    def _end(self, seconds: float) -> None:
        total, self._current = self._current, None
        if total is None:
            return
        total.seconds += seconds
        if self.handler is None and total.count >= 10 and _is_power_of_ten(total.count):
            logger.warning(
                "The event loop was blocked %d times, for %.2f s in all, at %s",
                total.count,
                total.seconds,
                format_place(total.place),
            )


def _is_power_of_ten(count: int) -> bool:
    while count % 10 == 0:
        count //= 10
    return count == 1
