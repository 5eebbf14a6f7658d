"""A run as one HTML file: lanes, arrows, marks and states, without network or libraries.

Rule: the file is a frame (page.html), its style (page.css), its program (page.js) and the run as
JSON. The JSON is written so that no text of a run ends the script that holds it. Numbers stand for
hosts, protocols and fates, which keeps a run of a hundred thousand packets in some megabytes.
"""

from __future__ import annotations

import html
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from .timeline import Timeline


def write(path: str | os.PathLike[str], timeline: Timeline) -> Path:
    """Write the page; returns its path. OSError."""
    target = Path(path)
    target.write_text(page(timeline), encoding="utf-8")
    return target


def page(timeline: Timeline) -> str:
    """Return the page as text."""
    parts = {
        "TITLE": html.escape(timeline.title),
        "STYLE": _asset("page.css"),
        "PROGRAM": _asset("page.js"),
        "DATA": _in_script(data(timeline)),
    }
    text = _asset("page.html")
    # In one pass: what is put in may itself look like a place to fill.
    head, *rest = text.split("{{")
    filled = [head]
    for part in rest:
        name, _, after = part.partition("}}")
        filled += [parts[name], after]
    return "".join(filled)


def data(timeline: Timeline) -> dict[str, Any]:
    """Return what page.js draws."""
    hosts = {name: number for number, name in enumerate(timeline.hosts)}
    protocols = _Numbers()
    fates = _Numbers()
    names = _Numbers()
    messages = [
        [
            hosts[message.src],
            hosts[message.dst],
            message.sent_ns,
            -1 if message.arrive_ns is None else message.arrive_ns,
            protocols[message.protocol],
            message.size,
            fates[message.fate],
            message.details,
        ]
        for message in timeline.messages
    ]
    marks = [
        [mark.at_ns, -1 if mark.host is None else hosts[mark.host], mark.kind, mark.text]
        for mark in timeline.marks
    ]
    spans = [
        [
            -1 if span.host is None else hosts[span.host],
            names[span.name],
            span.start_ns,
            span.end_ns,
            str(span.value),
        ]
        for span in timeline.spans
    ]
    return {
        "title": timeline.title,
        "headline": timeline.headline,
        "failed": timeline.failed,
        "end": timeline.end_ns,
        "hosts": timeline.hosts,
        "protocols": protocols.names,
        "fates": fates.names,
        "names": names.names,
        "messages": messages,
        "marks": marks,
        "spans": spans,
        "choices": timeline.choices,
        "report": timeline.report,
    }


class _Numbers:
    """Numbers for texts, in the order in which they come."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers[name]


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _in_script(value: Any) -> str:
    """Return JSON that a script element can hold: "</script>" and "<!--" would end it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).replace(
        "<", "\\u003c"
    )
