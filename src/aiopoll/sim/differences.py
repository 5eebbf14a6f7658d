"""The first difference of two files: of two tapes, or of two traces of --sim-trace.

Rule: what comes first in the run counts. Tapes differ in what they are of, before their draws; a
draw that one of them lacks is a difference at its place. Traces are compared event by event.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .tapefile import TapeError, TapeFile, load
from .words import Draw, in_words, moment

_CONTEXT = 3


def first_difference(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> list[str]:
    """Return the lines that describe the first difference of two files; none if there is none.

    TapeError if a file is neither a tape nor a trace, or both are not of one kind. OSError.
    """
    kinds = [_kind_of(path) for path in (one, other)]
    if kinds[0] != kinds[1]:
        raise TapeError(f"{one} is a {kinds[0]}, and {other} a {kinds[1]}")
    if kinds[0] == "trace":
        return _lines(_events(one), _events(other), one, other)
    tapes = load(one, any_python=True), load(other, any_python=True)
    heads = [name for name in _HEAD if getattr(tapes[0], name) != getattr(tapes[1], name)]
    lines = [
        f"{name.replace('_', ' ')}: {getattr(tapes[0], name)}, {getattr(tapes[1], name)}"
        for name in heads
    ]
    return lines + _lines(_draws(tapes[0]), _draws(tapes[1]), one, other)


_HEAD = ("test", "seed", "python", "hash_seed")


def _kind_of(path: str | os.PathLike[str]) -> str:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise TapeError(f"{os.fspath(path)} is no tape and no trace: {error}") from None
    if isinstance(found, dict) and "traceEvents" in found:
        return "trace"
    return "tape"


def _draws(tape: TapeFile) -> Iterator[tuple[Any, str]]:
    for entry in tape.deviations:
        words = in_words(Draw(entry))
        yield (entry.key, entry.value), f"{moment(entry.at_ns):>14}  {words}"


def _events(path: str | os.PathLike[str]) -> Iterator[tuple[Any, str]]:
    events = json.loads(Path(path).read_text(encoding="utf-8"))["traceEvents"]
    names = {
        event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"
    }
    for event in events:
        if event["ph"] not in "Xi":
            continue
        host = names.get(event["pid"], "")
        yield event, f"{moment(round(event['ts'] * 1000)):>14}  {host}: {event['name']}"


def _lines(
    one: Iterator[tuple[Any, str]],
    other: Iterator[tuple[Any, str]],
    one_name: str | os.PathLike[str],
    other_name: str | os.PathLike[str],
) -> list[str]:
    before: list[str] = []
    nothing = (None, "nothing more")
    for left, right in itertools.zip_longest(one, other, fillvalue=nothing):
        if left[0] != right[0]:
            lines = [f"  {line}" for line in before[-_CONTEXT:]]
            lines += [f"- {left[1]}", f"+ {right[1]}"]
            if left[1] == right[1]:
                # The words are the same: what they leave out is not.
                lines += [f"- {left[0]}", f"+ {right[0]}"]
            return [f"--- {os.fspath(one_name)}", f"+++ {os.fspath(other_name)}", *lines]
        before.append(left[1])
    return []
