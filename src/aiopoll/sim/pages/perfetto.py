"""A run as trace events of Chrome, which ui.perfetto.dev and chrome://tracing open.

Facts (Trace Event Format): a process has threads, a thread has slices. "X" is a slice with a
duration, "i" an instant, "C" a counter, "M" a name; "s" and "f" with one id are the ends of an
arrow, and each binds to the slice that encloses it. Times are microseconds, fractions allowed.

Rule: a host is a process, and the world is the first. The threads of a host are its network, its
state and its events. A packet is a slice of its length in time at the sender, and one of a
microsecond where it arrives. Numeric states are counters, all states are slices.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .timeline import Message, Timeline

_NETWORK, _EVENTS, _STATE = 1, 2, 3
"""Threads of a host; each name of a state has one of its own, from _STATE on."""
_SLICE_US = 1.0


def trace_events(timeline: Timeline) -> list[dict[str, Any]]:
    """Return the events of the trace, names first, then by time."""
    pids: dict[str | None, int] = {None: 1}
    for host in timeline.hosts:
        pids[host] = len(pids) + 1
    names = list(_names(timeline, pids))
    events = [
        *_messages(timeline, pids),
        *_marks(timeline, pids),
        *_spans(timeline, pids),
    ]
    events.sort(key=lambda event: event["ts"])
    return names + events


def write(path: str | os.PathLike[str], timeline: Timeline) -> Path:
    """Write the trace as JSON; returns its path. OSError."""
    target = Path(path)
    document = {
        "displayTimeUnit": "ms",
        "otherData": {"title": timeline.title, "result": timeline.headline},
        "traceEvents": trace_events(timeline),
    }
    target.write_text(json.dumps(document, ensure_ascii=False, default=str), encoding="utf-8")
    return target


def _us(ns: int) -> float:
    return ns / 1000


def _threads(timeline: Timeline) -> dict[tuple[str | None, str], int]:
    """Return the thread of each state of each host."""
    found: dict[tuple[str | None, str], int] = {}
    counts: dict[str | None, int] = {}
    for span in timeline.spans:
        if (span.host, span.name) not in found:
            counts[span.host] = counts.get(span.host, _STATE - 1) + 1
            found[span.host, span.name] = counts[span.host]
    return found


def _names(timeline: Timeline, pids: dict[str | None, int]) -> Iterator[dict[str, Any]]:
    for host, pid in pids.items():
        yield _meta("process_name", pid, 0, name=host or "world")
        yield _meta("process_sort_index", pid, 0, sort_index=pid)
        if host is not None:
            yield _meta("thread_name", pid, _NETWORK, name="network")
        yield _meta("thread_name", pid, _EVENTS, name="events")
    for (host, name), tid in _threads(timeline).items():
        yield _meta("thread_name", pids[host], tid, name=name)


def _meta(what: str, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": args}


def _messages(timeline: Timeline, pids: dict[str | None, int]) -> Iterator[dict[str, Any]]:
    for number, message in enumerate(timeline.messages, 1):
        name = f"{message.protocol} {message.src}→{message.dst}".strip()
        if message.arrive_ns is None:
            name += f" ({message.fate})"
        head = {"cat": "network", "name": name, "tid": _NETWORK}
        start = {**head, "pid": pids[message.src], "ts": _us(message.sent_ns)}
        yield {**start, "ph": "X", "dur": _SLICE_US, "args": _arguments(message)}
        if message.arrive_ns is None:
            lost = {**start, "name": f"{message.fate}: {name}", "ph": "i", "s": "t"}
            yield lost
            continue
        end = {**head, "pid": pids[message.dst], "ts": _us(message.arrive_ns)}
        yield {**end, "ph": "X", "dur": _SLICE_US, "args": _arguments(message)}
        yield {**start, "ph": "s", "id": number}
        yield {**end, "ph": "f", "bp": "e", "id": number}


def _arguments(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {
        "src": message.src,
        "dst": message.dst,
        "size": message.size,
        "fate": message.fate,
    }
    if message.arrive_ns is not None:
        found["latency_us"] = _us(message.arrive_ns - message.sent_ns)
    if message.details:
        found["details"] = message.details
    return found


def _marks(timeline: Timeline, pids: dict[str | None, int]) -> Iterator[dict[str, Any]]:
    for mark in timeline.marks:
        yield {
            "ph": "i",
            "cat": mark.kind,
            "name": mark.text,
            "pid": pids[mark.host],
            "tid": _EVENTS,
            "ts": _us(mark.at_ns),
            # A thing of the world crosses all its processes.
            "s": "t" if mark.kind == "note" else "p" if mark.host is not None else "g",
        }
    if timeline.failed:
        yield {
            "ph": "i",
            "cat": "failure",
            "name": timeline.headline,
            "pid": 1,
            "tid": _EVENTS,
            "ts": _us(timeline.end_ns),
            "s": "g",
        }


def _spans(timeline: Timeline, pids: dict[str | None, int]) -> Iterator[dict[str, Any]]:
    threads = _threads(timeline)
    for span in timeline.spans:
        pid = pids[span.host]
        yield {
            "ph": "X",
            "cat": "state",
            "name": f"{span.name}={span.value}" if span.name != str(span.value) else span.name,
            "pid": pid,
            "tid": threads[span.host, span.name],
            "ts": _us(span.start_ns),
            "dur": _us(span.end_ns - span.start_ns),
        }
        if isinstance(span.value, (int, float)) and not isinstance(span.value, bool):
            yield {
                "ph": "C",
                "name": span.name,
                "pid": pid,
                "tid": 0,
                "ts": _us(span.start_ns),
                "args": {"value": span.value},
            }
