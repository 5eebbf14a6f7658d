"""What a failure prints: how to repeat it, the choices that it needs, what waits, what faults did.

Rule: the order is that of a reader's questions. No line is wider than `width`, and nothing is
coloured unless asked for: the text goes into log files as well as to terminals. A long list is cut
in its later half, and says so.

A fault that did nothing is named: a test that passes although its links are cut proves nothing if
no packet was sent meanwhile.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .failure import failure_of, leaf_of, place_of
from .tape import Tape
from .waiting import relative
from .words import Draw, duration, in_words, moment

WIDTH = 100
_CHOICES_MAX = 20
_WAITING_MAX = 40
_NOTES_MAX = 8
_FAULTS_MAX = 8


class Event(Protocol):
    """A thing that happened in a world, at `at_ns` of its clock."""

    @property
    def at_ns(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def host(self) -> str | None: ...
    @property
    def data(self) -> Mapping[str, Any]: ...


class Outcome(Protocol):
    """A finished run, as far as a report looks at it."""

    @property
    def seed(self) -> int: ...
    @property
    def tape(self) -> Tape: ...
    @property
    def error(self) -> BaseException | None: ...
    @property
    def events(self) -> Sequence[Event]: ...
    @property
    def elapsed_ns(self) -> int: ...
    @property
    def waiting(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Context:
    """What a report says beside its run: commands that repeat it, what shrinking did."""

    commands: Sequence[str] = ()
    found: int | None = None
    """How many deviations the run had that was found, before shrinking."""
    runs: int = 0
    is_deterministic: bool = True
    draws: Sequence[Draw] | None = None
    hash_seed: str = "0"


_PLAIN = Context()


def describe(
    outcome: Outcome, context: Context = _PLAIN, *, width: int = WIDTH, color: bool = False
) -> str:
    """Return the report of a run that failed, as lines that end without a newline."""
    lines: list[str] = []
    paint = _paint if color else (lambda text, _: text)
    lines += _head(outcome, context, width, paint)
    lines += _choices(outcome, context, width, paint)
    lines += _section("What waits", _cut(outcome.waiting, _WAITING_MAX), width, paint)
    lines += _section("Faults", _faults(outcome.events), width, paint)
    if idle := idle_faults(outcome.events):
        lines += _section("Faults that did nothing", idle, width, paint)
    lines += _section("Last notes", _notes(outcome.events), width, paint)
    return "\n".join(lines)


# Parts


def headline(outcome: Outcome) -> str:
    """Return the seed, the time and the error of a run, in one line."""
    text = f"seed {outcome.seed}, after {duration(outcome.elapsed_ns)} of virtual time"
    if outcome.error is None:
        return f"passed: {text}"
    error = leaf_of(outcome.error)
    message = str(error).strip().split("\n")[0]
    return f"{text}: {type(error).__name__}" + (f": {message}" if message else "")


def _head(outcome: Outcome, context: Context, width: int, paint: Any) -> list[str]:
    lines = [paint(line, "1;31") for line in _wrapped(headline(outcome), width, "", "  ")]
    if outcome.error is not None and (place := failure_of(outcome.error).place):
        path = place_of(leaf_of(outcome.error).__traceback__)
        shown = relative(path) if path == place else place
        lines += _wrapped(f"at {shown}", width, "  ", "     ")
    for command in context.commands:
        # Unbroken, to be copied.
        lines.append(paint(f"  {command}", "36"))
    if not context.is_deterministic:
        lines += _wrapped(
            "The run is not the same each time: something in it does not come from the seed."
            " `aiopoll sim replay FILE --times 2` shows the first difference.",
            width,
            "  ",
            "  ",
        )
    if context.hash_seed == "random":
        text = "PYTHONHASHSEED is not fixed: sets of strings have another order in each process."
        lines += _wrapped(text, width, "  ", "  ")
    return lines


def _choices(outcome: Outcome, context: Context, width: int, paint: Any) -> list[str]:
    deviations = outcome.tape.deviations
    draws = context.draws or [Draw(entry) for entry in deviations]
    if not draws:
        title = "It fails in the plain order: no choice is needed"
        return ["", paint(title, "1")]
    count = f"{len(draws):,} choice{'s' * (len(draws) != 1)}"
    title = f"The {count} of this run that are not the plain ones"
    if context.found is not None:
        title = f"{count} of {context.found:,} {'is' if len(draws) == 1 else 'are'} needed"
        title += f" ({context.runs:,} runs)"
    entries = [f"{moment(draw.deviation.at_ns):>14}  {in_words(draw)}" for draw in draws]
    return _section(title, _cut(entries, _CHOICES_MAX), width, paint, hanging=" " * 18)


def _notes(events: Iterable[Event]) -> list[str]:
    notes = [event for event in events if event.kind == "note"]
    return [
        f"{moment(event.at_ns):>14}  {event.host or 'world'}: {note_text(event.data)}"
        for event in notes[-_NOTES_MAX:]
    ]


def note_text(data: Mapping[str, Any]) -> str:
    """Return a note as `name key=value …`."""
    rest = [f"{key}={value}" for key, value in data.items() if key != "event"]
    return " ".join([str(data.get("event", "")), *rest]).strip()


def _faults(events: Iterable[Event]) -> list[str]:
    """Return how often each fault happened, the most frequent first."""
    counts: Counter[str] = Counter()
    for event in events:
        if event.kind == "packet" and _is_lost(event):
            fate = event.data.get("fate", "lost")
            counts[f"{event.data.get('src')} to {event.data.get('dst')}: packets {fate}"] += 1
        elif event.kind in ("crash", "restart", "clock"):
            counts[f"{event.host}: {_name_of(event)}"] += 1
        elif event.kind in ("partition", "heal"):
            counts[_name_of(event)] += 1
        elif event.kind == "fault":
            counts[f"{event.host}: {event.data.get('what', 'fault')}"] += 1
    entries = [f"{name}: {count:,}" for name, count in counts.most_common(_FAULTS_MAX)]
    if len(counts) > _FAULTS_MAX:
        entries.append(f"… and {len(counts) - _FAULTS_MAX} more kinds")
    return entries


def _name_of(event: Event) -> str:
    if event.kind == "partition":
        return f"partition of {sides_of(event)}"
    return {"crash": "crashes", "restart": "restarts", "clock": "changes of the clock"}.get(
        event.kind, event.kind
    )


def sides_of(event: Event) -> str:
    """Return the sides of a partition, as in "n0, n1 | n2"."""
    sides = [event.data.get("side_a", ()), event.data.get("side_b", ())]
    return " | ".join(", ".join(map(str, side)) for side in sides)


def idle_faults(events: Sequence[Event]) -> list[str]:
    """Return the partitions that no packet ran into, with the time of each."""
    open_: list[Event] = []
    idle: list[Event] = []
    for event in events:
        if event.kind == "partition":
            open_.append(event)
            idle.append(event)
        elif event.kind == "heal":
            # Without sides it ends all of them.
            sides = sides_of(event)
            open_ = [each for each in open_ if "side_a" in event.data and sides_of(each) != sides]
        elif open_ and event.kind == "packet" and _is_lost(event):
            for partition in open_:
                if partition in idle and _is_cut(partition, event):
                    idle.remove(partition)
    return [
        f"{moment(event.at_ns):>14}  partition of {sides_of(event)}: no packet was sent across it"
        for event in idle
    ]


def _is_lost(event: Event) -> bool:
    return event.data.get("arrive_ns") is None and event.data.get("fate") != "held"


def _is_cut(partition: Event, event: Event) -> bool:
    ends = {event.data.get("src"), event.data.get("dst")}
    sides = [partition.data.get("side_a", ()), partition.data.get("side_b", ())]
    return all(ends & set(side) for side in sides)


# Lines


def _section(
    title: str, entries: Sequence[str], width: int, paint: Any, hanging: str = "      "
) -> list[str]:
    if not entries:
        return []
    lines = ["", paint(title, "1")]
    for entry in entries:
        indent = "  " + entry[: len(entry) - len(entry.lstrip())]
        lines += _wrapped(entry.strip(), width, indent, indent + hanging)
    return lines


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split("\n")),
        width,
        initial_indent=first,
        subsequent_indent=rest if len(rest) < width // 2 else first,
        break_on_hyphens=False,
    ) or [first.rstrip()]


def _cut(entries: Sequence[str], most: int) -> list[str]:
    if len(entries) <= most:
        return list(entries)
    head = most * 3 // 4
    left = len(entries) - most
    return [*entries[:head], f"… {left:,} more …", *entries[head + left :]]


def _paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"
