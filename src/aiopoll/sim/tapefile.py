"""Tape files: a run on disk, to be repeated on this machine or another.

Facts: a run is its program, its Python and its draws. The order of sets of strings comes from the
hash seed, and other minor versions of Python schedule callbacks in other ways.

Rule: a tape file is JSON with what a repetition needs, and refuses another minor version of Python
instead of failing in another way. Deviations are lists of label, ordinal, value and nanoseconds;
the last is for readers and may be missing.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .tape import Deviation, Tape, replay_of

FORMAT = 1
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class TapeError(ValueError):
    """A tape file that cannot be used here, and why."""


def hash_seed() -> str:
    """Return the value of PYTHONHASHSEED that this process runs with; "random" if none is set."""
    if not sys.flags.hash_randomization:
        return "0"
    value = os.environ.get("PYTHONHASHSEED", "")
    return value if value.isdecimal() and not sys.flags.ignore_environment else "random"


@dataclass(frozen=True)
class TapeFile:
    """What a tape file holds. `test` is "path::name", `error` the failure in words."""

    test: str
    seed: int
    strategy: str
    deviations: list[Deviation]
    error: str = ""
    python: str = PYTHON
    hash_seed: str = field(default_factory=hash_seed)

    def tape(self) -> Tape:
        """Return a tape that repeats the run."""
        return replay_of(self.deviations, seed=self.seed)


def save(path: str | os.PathLike[str], tape_file: TapeFile) -> Path:
    """Write a tape file, its folder too; returns its path. OSError."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    head = {
        "format": FORMAT,
        "python": tape_file.python,
        "hash_seed": tape_file.hash_seed,
        "test": tape_file.test,
        "seed": tape_file.seed,
        "strategy": tape_file.strategy,
        "error": tape_file.error,
    }
    lines = [
        json.dumps([entry.label, entry.ordinal, entry.value, entry.at_ns], ensure_ascii=False)
        for entry in tape_file.deviations
    ]
    # One deviation a line: two tapes can be compared by `diff` too.
    text = json.dumps(head, ensure_ascii=False, indent=1)[:-2]
    body = ",\n  ".join(lines)
    text += ',\n "deviations": [' + (f"\n  {body}\n ]" if lines else "]") + "\n}\n"
    target.write_text(text, encoding="utf-8")
    return target


def load(path: str | os.PathLike[str], *, any_python: bool = False) -> TapeFile:
    """Read a tape file.

    TapeError if it is damaged, of another format or, unless `any_python`, of another minor version
    of Python. OSError if it cannot be read.
    """
    name = os.fspath(path)
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise TapeError(f"{name} is no tape file: {error}") from None
    if not isinstance(found, dict) or "format" not in found:
        raise TapeError(f"{name} is no tape file: it has no format")
    if found["format"] != FORMAT:
        raise TapeError(
            f"{name} has format {found['format']}, and this aiopoll reads format {FORMAT}"
        )
    python = found.get("python")
    if python != PYTHON and not any_python:
        raise TapeError(f"{name} was recorded with Python {python}, and this is Python {PYTHON}")
    try:
        return TapeFile(
            test=_typed(found["test"], str),
            seed=_typed(found["seed"], int),
            strategy=_typed(found["strategy"], str),
            deviations=list(_deviations(found["deviations"])),
            error=_typed(found.get("error", ""), str),
            python=_typed(python, str),
            hash_seed=_typed(found["hash_seed"], str),
        )
    except KeyError as error:
        raise TapeError(f"{name} is damaged: it has no {error.args[0]}") from None
    except (TypeError, ValueError) as error:
        raise TapeError(f"{name} is damaged: {error}") from None


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _deviations(entries: Any) -> Iterable[Deviation]:
    for entry in _typed(entries, list):
        if not isinstance(entry, list) or len(entry) not in (3, 4):
            raise ValueError(f"{entry!r} is no deviation")
        label, ordinal, value, *at = entry
        yield Deviation(
            _typed(label, str),
            _typed(ordinal, int),
            _typed(value, int),
            _typed(at[0], int) if at else 0,
        )
