"""Whether a run equals itself: the first system call or draw at which two runs of a tape differ.

Facts: what the seed does not decide shows somewhere: a clock that is read outside, an address that
orders a set, a thread of a library. The first difference is near its cause; the failure is not.

Rule: three runs. The first keeps a number for each line of the trace. The second compares as it
goes, and keeps line and stack of the first that differs. The third stops at the same line, for the
stack of the other side. Draws of the tape are lines too, so programs without system calls have a
trace.

Left out: differences that change no system call and no draw.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from ..kernel.trace import TraceFunction, format_call
from .failure import is_program
from .inside import outside
from .tape import Key, Strategy, Tape
from .waiting import line_of

_FRAMES_MAX = 8

Run = Callable[[Tape, TraceFunction], object]
"""Runs a program by a tape, with a function that gets its trace."""


@dataclass(frozen=True)
class Side:
    """One of two runs where they differ: its line of the trace, and the stack that led to it."""

    line: str
    stack: Sequence[str]


@dataclass(frozen=True)
class Difference:
    """The first line, counted from 0, at which two runs of one tape are not the same."""

    index: int
    first: Side
    second: Side
    is_repeated: bool
    """Whether the first side came out again; else its stack is that of a third way."""

    def __str__(self) -> str:
        parts = [f"Two runs of one tape differ from line {self.index + 1:,} of their traces on."]
        for name, side in (("One", self.first), ("The other", self.second)):
            parts.append(f"{name}: {side.line}")
            parts += [f"    {frame}" for frame in side.stack]
        if not self.is_repeated:
            parts.append("A third run was different again.")
        return "\n".join(parts)


class Sensor(Protocol):
    """Gets the lines of a trace one by one."""

    def see(self, line: str) -> None: ...


class Traced:
    """A strategy whose draws are lines of the trace."""

    def __init__(self, strategy: Strategy, tape: Tape, trace: TraceFunction) -> None:
        self.name: str = strategy.name
        self._strategy = strategy
        self._tape = tape
        self._trace = trace

    def _line(self, key: Key, alternatives: object, value: int) -> None:
        self._trace(self._tape.now_ns(), "tape", key[0], (key[1], alternatives), value)

    def choose(self, key: Key, alternatives: int) -> int:
        value = self._strategy.choose(key, alternatives)
        self._line(key, alternatives, value)
        return value

    def chance(self, key: Key, probability: float) -> bool:
        value = self._strategy.chance(key, probability)
        self._line(key, probability, value)
        return value

    def pick(self, key: Key, alternatives: int, keys: Callable[[], Sequence[object]]) -> int:
        value = self._strategy.pick(key, alternatives, keys)
        self._line(key, alternatives, value)
        return value


class Recorder:
    """Keeps a number for each line."""

    def __init__(self) -> None:
        self.digests: array[int] = array("L")

    def see(self, line: str) -> None:
        self.digests.append(digest(line))


class Comparer:
    """Compares with the lines of an earlier run, and keeps the first that differs."""

    def __init__(self, digests: array[int]) -> None:
        self._digests = digests
        self.index: int = 0
        self.side: Side | None = None

    def see(self, line: str) -> None:
        if self.side is not None:
            return
        if self.index >= len(self._digests) or self._digests[self.index] != digest(line):
            self.side = Side(line, stack_of(sys._getframe(1)))
        else:
            self.index += 1


class Stopper:
    """Keeps the line of one index, with its stack."""

    def __init__(self, index: int) -> None:
        self._left = index
        self.side: Side | None = None

    def see(self, line: str) -> None:
        if self._left == 0:
            self.side = Side(line, stack_of(sys._getframe(1)))
        self._left -= 1


def digest(line: str) -> int:
    return zlib.crc32(line.encode("utf-8", "surrogatepass"))


def stack_of(frame: FrameType | None) -> list[str]:
    """Return the program's frames, innermost last; of a stack without any, the last three."""
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    # The sources are files of the real machine, and reading them is no part of the run.
    with outside():
        own = [frame for frame in frames if is_program(frame.f_code.co_filename)] or frames[:3]
        return [
            line_of(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
            for frame in reversed(own[:_FRAMES_MAX])
        ]


def observe(run: Run, make: Callable[[], Tape], sensor: Sensor) -> None:
    """Run once, with `sensor` for the lines of its system calls and draws."""

    def trace(now_ns: int, task: str, name: str, args: tuple[Any, ...], result: Any) -> None:
        sensor.see(format_call(now_ns, task, name, args, result))

    tape = make()
    tape.strategy = Traced(tape.strategy, tape, trace)
    run(tape, trace)


def first_difference(run: Run, make: Callable[[], Tape], *, times: int = 2) -> Difference | None:
    """Run `times` times, each by a fresh tape of `make`; returns where a run differs, or None."""
    recorder = Recorder()
    observe(run, make, recorder)
    for _ in range(times - 1):
        comparer = Comparer(recorder.digests)
        observe(run, make, comparer)
        if comparer.side is None:
            if comparer.index == len(recorder.digests):
                continue
            comparer.side = Side("nothing more", ())
        stopper = Stopper(comparer.index)
        observe(run, make, stopper)
        side = stopper.side or Side("nothing more", ())
        recorded = recorder.digests[comparer.index :][:1]
        is_repeated = digest(side.line) == recorded[0] if recorded else side.line == "nothing more"
        return Difference(comparer.index, side, comparer.side, is_repeated)
    return None
