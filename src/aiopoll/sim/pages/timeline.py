"""The events of a run as messages, marks and spans of hosts: what a page draws.

Facts: an event is a moment. A state lasts until the next one of its name, a crash until the
restart, a partition until it is healed.

Rule: every time is in nanoseconds of the virtual clock. What is open at the end lasts to the end.
Events of no host belong to the world, host None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..report import Event, Outcome, headline, note_text, sides_of
from ..words import Draw, duration, in_words

DOWN = "down"
"""The name of the state in which a host does not run."""
PARTITION = "partition"
_ENDS = {"crash": "crashed", "kill": "killed", "exit": "exited"}
_OWN = ("event", "what", "host")


@dataclass(frozen=True)
class Message:
    """A packet from one host to another; `arrive_ns` is None if it never arrives."""

    src: str
    dst: str
    sent_ns: int
    arrive_ns: int | None
    protocol: str
    size: int
    fate: str
    details: str = ""


@dataclass(frozen=True)
class Mark:
    """A thing that happened at one moment, on a host or to the world."""

    at_ns: int
    host: str | None
    kind: str
    text: str


@dataclass(frozen=True)
class Span:
    """A state that lasted: its name and value, on a host or of the world."""

    host: str | None
    name: str
    value: Any
    start_ns: int
    end_ns: int


@dataclass
class Timeline:
    """What a page shows of one run."""

    title: str
    headline: str
    failed: bool
    end_ns: int
    hosts: list[str]
    messages: list[Message] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    choices: list[tuple[int, str]] = field(default_factory=list)
    report: str = ""


class _Spans:
    """The states that last, by host and name."""

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans
        self._open: dict[tuple[str | None, str], tuple[Any, int]] = {}

    def set(self, host: str | None, name: str, value: Any, at_ns: int) -> None:
        """Begin a state; one with the same value goes on."""
        found = self._open.get((host, name))
        if found is None or found[0] != value:
            self.end(host, name, at_ns)
            self._open[host, name] = value, at_ns

    def end(self, host: str | None, name: str, at_ns: int) -> None:
        found = self._open.pop((host, name), None)
        if found is not None:
            self.spans.append(Span(host, name, found[0], found[1], at_ns))

    def end_host(self, host: str | None, at_ns: int, prefix: str = "") -> None:
        """End the states of a host whose names begin with `prefix`."""
        for owner, name in list(self._open):
            if owner == host and name.startswith(prefix):
                self.end(owner, name, at_ns)

    def end_all(self, at_ns: int) -> None:
        for owner, name in list(self._open):
            self.end(owner, name, at_ns)


def timeline_of(
    outcome: Outcome,
    *,
    title: str = "",
    hosts: Iterable[str] = (),
    draws: Sequence[Draw] | None = None,
    report: str = "",
) -> Timeline:
    """Return what a page shows of a run; `hosts` gives the order, others follow by name."""
    found = Timeline(
        title=title or f"seed {outcome.seed}",
        headline=headline(outcome),
        failed=outcome.error is not None,
        end_ns=max([outcome.elapsed_ns, *(event.at_ns for event in outcome.events)]),
        hosts=_hosts(hosts, outcome.events),
        report=report,
    )
    spans = _Spans(found.spans)
    for event in outcome.events:
        _add(found, spans, event)
    spans.end_all(found.end_ns)
    found.messages.sort(key=lambda message: message.sent_ns)
    found.marks.sort(key=lambda mark: mark.at_ns)
    found.spans.sort(key=lambda span: span.start_ns)
    if draws is None:
        draws = [Draw(entry) for entry in outcome.tape.deviations]
    found.choices = [(draw.deviation.at_ns, in_words(draw)) for draw in draws]
    return found


def _hosts(first: Iterable[str], events: Iterable[Event]) -> list[str]:
    seen: set[str] = set()
    for event in events:
        if event.host is not None:
            seen.add(event.host)
        seen.update(str(event.data[end]) for end in ("src", "dst") if end in event.data)
    ordered = list(first)
    return ordered + sorted(seen - set(ordered), key=_natural)


def _natural(name: str) -> tuple[str, int]:
    """Sort n2 before n10."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


def _add(found: Timeline, spans: _Spans, event: Event) -> None:
    data, at_ns, host = event.data, event.at_ns, event.host
    if event.kind == "packet":
        # A packet that a pause holds is seen once more, when it arrives.
        if data.get("fate") != "held":
            found.messages.append(_message(event))
        return
    if event.kind == "state":
        for name, value in data.items():
            spans.set(host, name, value, at_ns)
        return
    if event.kind in _ENDS:
        spans.end_host(host, at_ns)
        spans.set(host, DOWN, _ENDS[event.kind], at_ns)
    elif event.kind == "pause":
        spans.set(host, DOWN, "paused", at_ns)
    elif event.kind in ("restart", "resume"):
        spans.end(host, DOWN, at_ns)
    elif event.kind == "partition":
        spans.set(None, f"{PARTITION} {sides_of(event)}", sides_of(event), at_ns)
    elif event.kind == "heal" and "side_a" in data:
        spans.end(None, f"{PARTITION} {sides_of(event)}", at_ns)
    elif event.kind == "heal":
        spans.end_host(None, at_ns, PARTITION)
    found.marks.append(Mark(at_ns, host, event.kind, event_text(event)))


def _message(event: Event) -> Message:
    data = event.data
    known = ("src", "dst", "sent_ns", "arrive_ns", "protocol", "size", "fate")
    arrive_ns = data.get("arrive_ns")
    return Message(
        src=str(data.get("src", event.host)),
        dst=str(data.get("dst")),
        sent_ns=data.get("sent_ns", event.at_ns),
        arrive_ns=arrive_ns,
        protocol=str(data.get("protocol", "")),
        size=data.get("size", 0),
        fate=str(data.get("fate") or ("delivered" if arrive_ns is not None else "lost")),
        details=_pairs({key: value for key, value in data.items() if key not in known}),
    )


def event_text(event: Event) -> str:
    """Return an event in words, without its host."""
    if event.kind == "note":
        return note_text(event.data)
    if event.kind == "partition":
        return f"partition {sides_of(event)}"
    what = event.data.get("what", "")
    rest = _pairs({key: value for key, value in event.data.items() if key not in _OWN})
    return " ".join(filter(None, (str(what) or event.kind, rest)))


def _pairs(data: Mapping[str, Any]) -> str:
    return " ".join(
        f"{key.removesuffix('_ns')}={duration(value) if key.endswith('_ns') else value}"
        for key, value in data.items()
        if value is not None
    )
