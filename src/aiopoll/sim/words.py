"""Deviations in words: "n2's packet 5 to n0 was 40 ms late".

Facts: a label says what was drawn ("n2>n0 delay"), the ordinal which of them, the value what came
out. Which tasks a choice was between is known only while the program runs.

Rule: one list of phrases, each a pattern of labels and a function that puts a draw into words; the
parts of the simulator add theirs where they make the label. The last to be added is asked first. A
label that no phrase takes is shown as it is. `Narrating` repeats a tape and keeps what words need.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from .tape import Deviation, Key, Replay

DISK_GRAIN_NS = 1000
CHAOS_GRAIN_NS = 50_000_000
LOST, PREFIX, SUBSET, KEPT = range(4)
"""What disk.py and chaos.py draw in; their tests compare."""
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))


@dataclass(frozen=True)
class Draw:
    """A deviation with what its run knew: how many alternatives, and the names of them.

    Both are empty where the run was not repeated for it.
    """

    deviation: Deviation
    alternatives: int = 0
    names: Sequence[str] = ()
    happened: str = ""
    """What a fault was, as a page shows it."""

    @property
    def value(self) -> int:
        return self.deviation.value

    @property
    def number(self) -> int:
        """Which draw of its label it is, counted from 1."""
        return self.deviation.ordinal + 1

    @property
    def taken(self) -> str:
        """The name of the alternative that was taken."""
        return self.names[self.value] if self.value < len(self.names) else ""

    @property
    def plain(self) -> str:
        """The name of the alternative that the plain order takes."""
        return self.names[0] if self.names else ""


Phrase = Callable[["re.Match[str]", Draw], str]
P = TypeVar("P", bound=Phrase)
_phrases: list[tuple[re.Pattern[str], Phrase]] = []


def phrase(pattern: str) -> Callable[[P], P]:
    """Use the function for labels that match the whole pattern."""

    def add(function: P) -> P:
        _phrases.append((re.compile(pattern), function))
        return function

    return add


def in_words(draw: Draw) -> str:
    """Return what the draw did to the run."""
    for pattern, function in reversed(_phrases):
        if match := pattern.fullmatch(draw.deviation.label):
            return function(match, draw)
    names = f" ({draw.taken} before {draw.plain})" if draw.names else ""
    return f"{draw.deviation.label}, number {draw.number}: {draw.value} instead of 0{names}"


def duration(ns: int) -> str:
    """Return nanoseconds in the unit that suits, with three digits."""
    for size, unit in _UNITS:
        if abs(ns) >= size:
            return (
                f"{ns / size:.3g} {unit}" if abs(ns) < 1000 * size else f"{ns / size:,.0f} {unit}"
            )
    return f"{ns} ns"


def moment(ns: int) -> str:
    """Return a time of the virtual clock in seconds, to the microsecond."""
    return f"{ns / 1_000_000_000:,.6f} s"


def ordinal(number: int) -> str:
    """Return "1st", "2nd", "11th"."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def short(name: object, width: int = 40) -> str:
    text = " ".join(str(name).split())
    return text if len(text) <= width else text[: width - 1] + "…"


@dataclass
class _Seen:
    alternatives: int
    names: Sequence[str] = field(default=())


class Narrating(Replay):
    """Repeats a tape, and keeps what each deviation chose between."""

    name = "replay"

    def __init__(self, deviations: Iterable[Deviation]) -> None:
        super().__init__(deviations)
        self._seen: dict[Key, _Seen] = {}

    def choose(self, key: Key, alternatives: int) -> int:
        value = super().choose(key, alternatives)
        if value:
            self._seen[key] = _Seen(alternatives)
        return value

    def pick(self, key: Key, alternatives: int, keys: Callable[[], Sequence[object]]) -> int:
        value = super().pick(key, alternatives, keys)
        if value:
            self._seen[key] = _Seen(alternatives, [short(name) for name in keys()])
        return value

    def draws(self, deviations: Iterable[Deviation]) -> list[Draw]:
        """Return the deviations of the run with what was kept of each."""
        nothing = _Seen(0)
        found = [(entry, self._seen.get(entry.key, nothing)) for entry in deviations]
        return [Draw(entry, seen.alternatives, seen.names) for entry, seen in found]


# The order of tasks


def _of(match: re.Match[str], name: str) -> str:
    """Return the name without that of its host."""
    return f"'{name.removeprefix(match['host'] + ' ')}'"


_LOOP = r"(?P<host>\S+(?: loop \d+)?)"


@phrase(rf"{_LOOP} step")
def _step(match: re.Match[str], draw: Draw) -> str:
    if draw.names and draw.taken != draw.plain:
        return f"{match['host']} ran {_of(match, draw.taken)} before {_of(match, draw.plain)}"
    of = f" of {draw.alternatives}" if draw.alternatives else ""
    return f"{match['host']} ran its {ordinal(draw.value + 1)} ready callback{of} first"


@phrase(rf"{_LOOP} events")
def _events(match: re.Match[str], draw: Draw) -> str:
    of = f" of {draw.alternatives}" if draw.alternatives else ""
    return f"{match['host']} served its {ordinal(draw.value + 1)} ready descriptor{of} first"


@phrase(rf"{_LOOP} timers")
def _timers(match: re.Match[str], draw: Draw) -> str:
    of = f" of {draw.alternatives}" if draw.alternatives else ""
    return f"{match['host']} ran the {ordinal(draw.value + 1)}{of} timers of one instant first"


@phrase(r"hosts")
def _hosts(match: re.Match[str], draw: Draw) -> str:
    if draw.names and draw.taken != draw.plain:
        return f"{draw.taken} ran before {draw.plain}"
    # Two threads of a host can have one name.
    return f"the {ordinal(draw.value + 1)} host that was ready ran first"


@phrase(r"buggify (?P<site>.+?)(?P<all> at all)?")
def _buggify(match: re.Match[str], draw: Draw) -> str:
    if match["all"]:
        return f"the site {match['site']!r} may misbehave in this run"
    return f"{match['site']!r} misbehaved, at its {ordinal(draw.number)} time"


# The network

_LINK = r"(?P<src>[^\s>]+)>(?P<dst>[^\s>]+)"


def _packet(match: re.Match[str], draw: Draw) -> str:
    return f"{match['src']}'s {ordinal(draw.number)} packet to {match['dst']}"


@phrase(rf"{_LINK} delay")
def _delay(match: re.Match[str], draw: Draw) -> str:
    return f"{_packet(match, draw)} was {duration(draw.value)} late"


@phrase(rf"{_LINK} (?:loss|lost)")
def _lost(match: re.Match[str], draw: Draw) -> str:
    return f"{_packet(match, draw)} was lost"


@phrase(rf"{_LINK} duplicated?")
def _duplicate(match: re.Match[str], draw: Draw) -> str:
    return f"{_packet(match, draw)} arrived twice"


@phrase(rf"{_LINK} reorder(?:ed)?")
def _reordered(match: re.Match[str], draw: Draw) -> str:
    return f"{_packet(match, draw)} was overtaken by a later one"


# The disk


@phrase(r"(?P<host>\S+) (?P<call>fsync|write|close|open|read) errors?")
def _disk_error(match: re.Match[str], draw: Draw) -> str:
    return f"{match['host']}'s {ordinal(draw.number)} {match['call']} failed"


@phrase(r"(?P<host>\S+) (?P<call>fsync|write|read|close) delay")
def _disk_delay(match: re.Match[str], draw: Draw) -> str:
    took = duration(draw.value * DISK_GRAIN_NS)
    return f"{match['host']}'s {ordinal(draw.number)} {match['call']} took {took} more"


@phrase(r"(?P<host>\S+) slow fsync")
def _slow_fsync(match: re.Match[str], draw: Draw) -> str:
    return f"{match['host']}'s {ordinal(draw.number)} fsync was slow"


@phrase(r"(?P<host>\S+) full")
def _full(match: re.Match[str], draw: Draw) -> str:
    return f"{match['host']}'s disk was full at its {ordinal(draw.number)} write"


@phrase(r"(?P<host>\S+) short write(?P<size> size)?")
def _short_write(match: re.Match[str], draw: Draw) -> str:
    if match["size"]:
        return (
            f"{match['host']}'s {ordinal(draw.number)} short write lost {draw.value} sectors more"
        )
    return f"{match['host']}'s {ordinal(draw.number)} write was cut short"


@phrase(r"(?P<host>\S+) (?P<kind>\w+) kept")
def _kept(match: re.Match[str], draw: Draw) -> str:
    # The plain value of a crash is that all is lost which was not fsynced.
    what = f"un-fsynced {match['kind']} of a name"
    return f"{match['host']}'s crash kept an {what}"


@phrase(r"(?P<host>\S+) torn (?P<file>\S+)(?: (?P<part>pages|sectors|page|write|cache))?")
def _torn(match: re.Match[str], draw: Draw) -> str:
    host, file = match["host"], match["file"]
    part = match["part"]
    if part in ("pages", "page"):
        return f"{draw.value} is how much of {file} survived {host}'s crash ({part})"
    if part == "cache":
        return f"{host}'s crash lost what its device had of {file} in its own cache"
    if part is not None:
        return f"{host}'s crash tore a write to {file} after {draw.value} sectors"
    if draw.value == KEPT:
        return f"{host}'s crash kept all of its un-fsynced {file}"
    what = "the first part" if draw.value == PREFIX else "some pages"
    return f"{host}'s crash kept {what} of its un-fsynced {file}"


# Plans of faults


@phrase(r"chaos (?P<kind>[a-z ]+?)")
def _chaos(match: re.Match[str], draw: Draw) -> str:
    return f"a fault began: {draw.happened or match['kind']}"


@phrase(r"chaos (?P<kind>[a-z ]+?) (?P<what>whom|with|lasts|one way|jump|back|drift|side of \S+)")
def _chaos_detail(match: re.Match[str], draw: Draw) -> str:
    what = match["what"]
    head = f"the {ordinal(draw.number)} {match['kind']}"
    if what == "whom":
        return f"{head} met the {ordinal(draw.value + 1)} host that ran"
    if what == "lasts":
        return f"{head} lasted {duration(draw.value * CHAOS_GRAIN_NS)} longer"
    if what == "one way":
        return f"{head} was one way"
    if what.startswith("side of"):
        return f"{head} had {what.rpartition(' ')[2]} on its other side"
    return f"{head}: {what} {draw.value}"


# Threads


@phrase(r"(?P<host>\S+) threads")
def _threads(match: re.Match[str], draw: Draw) -> str:
    return (
        f"{match['host']} changed threads at a lock, for the {ordinal(draw.number)} time it could"
    )
