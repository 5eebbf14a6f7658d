"""A strict reader of trace events of Chrome, for the traces of loops and those of the simulator."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

NEEDS: dict[str, set[str]] = {
    "M": {"args"},
    "X": {"ts", "dur"},
    "i": {"ts", "s"},
    "C": {"ts", "args"},
    "b": {"ts", "id", "cat"},
    "e": {"ts", "id", "cat"},
    "s": {"ts", "id"},
    "f": {"ts", "id", "bp"},
}
"""The fields that each phase has besides name, pid and tid."""
OPTIONAL = {"cat", "args"}
METADATA = {"process_name", "process_sort_index", "thread_name"}
DOCUMENT = {"displayTimeUnit", "otherData", "traceEvents"}
NS = 0.0011
"""In microseconds: how exactly a time is written."""


def refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read(path: Path) -> dict[str, Any]:
    """The document of a file, once it is found to be right."""
    document: dict[str, Any] = json.loads(path.read_text("utf-8"), parse_constant=refuse_constant)
    check(document)
    return document


def check(document: dict[str, Any]) -> None:
    """Raises AssertionError for what the format, or a viewer, does not allow."""
    assert set(document) == DOCUMENT
    assert document["displayTimeUnit"] in ("ms", "ns")
    events = document["traceEvents"]
    for event in events:
        check_event(event)
    first = next((i for i, event in enumerate(events) if event["ph"] != "M"), len(events))
    assert any(event["name"] == "process_name" for event in events[:first])
    check_names(events)
    check_slices(events)
    check_pairs(events)


def check_event(event: dict[str, Any]) -> None:
    phase = event["ph"]
    assert phase in NEEDS, event
    fields = {"ph", "name", "pid", "tid"} | NEEDS[phase]
    assert fields <= set(event) <= fields | OPTIONAL, event
    assert isinstance(event["name"], str), event
    assert event["name"], event
    for field in ("pid", "tid"):
        assert type(event[field]) is int, event
    for field in ("ts", "dur"):
        assert type(event.get(field, 0)) in (int, float), event
        assert event.get(field, 0) >= 0, event
    assert isinstance(event.get("args", {}), dict), event
    if phase == "M":
        assert event["name"] in METADATA, event
    if phase == "i":
        assert event["s"] in ("g", "p", "t"), event


def check_names(events: list[dict[str, Any]]) -> None:
    """Each process and thread has one name, and no name is of another."""
    used = {(event["pid"], event["tid"]) for event in events if event["ph"] not in "MC"}
    processes = [event["pid"] for event in events if event["name"] == "process_name"]
    threads = [
        (event["pid"], event["tid"])
        for event in events
        if event["ph"] == "M" and event["name"] == "thread_name"
    ]
    assert len(set(processes)) == len(processes)
    assert len(set(threads)) == len(threads)
    assert {pid for pid, _ in used} <= set(processes)
    assert used <= set(threads)


def check_slices(events: list[dict[str, Any]]) -> None:
    """Of two slices of a thread one is within the other, or they do not touch."""
    threads: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            threads[event["pid"], event["tid"]].append(event)
    for slices in threads.values():
        slices.sort(key=lambda event: (event["ts"], -event["dur"]))
        stack: list[dict[str, Any]] = []
        for event in slices:
            end = event["ts"] + event["dur"]
            while stack and stack[-1]["ts"] + stack[-1]["dur"] <= event["ts"] + NS:
                stack.pop()
            assert not stack or end <= stack[-1]["ts"] + stack[-1]["dur"] + NS, (stack[-1], event)
            stack.append(event)


def check_pairs(events: list[dict[str, Any]]) -> None:
    """Each beginning has one end, of the same name, and not before it."""
    for opening, closing in ("be", "sf"):
        ends: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for event in events:
            if event["ph"] in (opening, closing):
                ends[event["cat"], event["id"]].append(event)
        for pair in ends.values():
            assert [event["ph"] for event in pair] == [opening, closing], pair
            assert pair[0]["name"] == pair[1]["name"], pair
            assert pair[0]["ts"] <= pair[1]["ts"], pair


def outer_of(document: dict[str, Any], event: dict[str, Any]) -> dict[str, Any] | None:
    """The innermost slice of the same thread that an event is within."""
    end = event["ts"] + event.get("dur", 0)
    around = [
        other
        for other in document["traceEvents"]
        if other["ph"] == "X"
        and other is not event
        and other["tid"] == event["tid"]
        and other["ts"] <= event["ts"] + NS
        and end <= other["ts"] + other["dur"] + NS
    ]
    return min(around, key=lambda other: other["dur"], default=None)


def named(document: dict[str, Any], name: str, phase: str | None = None) -> list[dict[str, Any]]:
    """The events of a name, in the order of time."""
    found = [
        event
        for event in document["traceEvents"]
        if event["name"] == name and phase in (None, event["ph"])
    ]
    return sorted(found, key=lambda event: event.get("ts", 0))
