"""aiopoll doctor: prints the abilities of this kernel and sandbox, and the fix for the others."""

import argparse
import dataclasses
import json
import os
import sys
import textwrap
from collections.abc import Iterator

from aiopoll.support import FileSupport, Support, probe

_WIDTH = 88


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="report whether AIO poll works here, and if not, why and what to do",
        description="Tries AIO poll and reports what works, what does not, and what to do about it."
        " Exit status 0: AIO poll works; 1: it does not.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    parser.set_defaults(handler=_handle)


def _handle(arguments: argparse.Namespace) -> int:
    support = probe()
    try:
        print(as_json(support) if arguments.json else report(support), flush=True)
    except OSError:
        # The reader is gone (a pager was left, the disk is full).  The status still counts, and
        # Python must not complain when it flushes at exit.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
    return 0 if support.aio_poll else 1


def as_json(support: Support) -> str:
    """Returns the fields of Support, under their names, as a JSON object in one line."""
    return json.dumps(dataclasses.asdict(support))


def report(support: Support) -> str:
    """Returns the findings as plain ASCII text for people."""
    return "\n".join(_lines(support))


def _lines(support: Support) -> Iterator[str]:
    works = "works" if support.aio_poll else "does not work"
    yield f"AIO poll {works} here (kernel {support.kernel or 'unknown'})."
    if support.reason:
        yield ""
        yield from _wrapped("Why: " + support.reason, indent="     ")
    yield ""
    yield "System calls"
    yield _row("io_setup", _yes(support.setup))
    yield _row("io_submit, POLL", _tried(support.setup, support.submit))
    yield _row("io_cancel", _tried(support.submit, support.cancel))
    yield _row("io_pgetevents", _tried(support.setup, support.pgetevents))
    yield _row("ring in user space", _tried(support.setup, support.user_ring))
    yield ""
    yield "Events in flight, on the whole machine"
    yield _row("fs.aio-max-nr", _number(support.aio_max_nr))
    yield _row("fs.aio-nr (taken)", _number(support.aio_nr))
    if support.files:
        yield ""
        yield "Files that AIO poll takes"
        for file in support.files:
            yield from _file_lines(file)
    for limit in support.limits:
        yield ""
        yield from _wrapped("Note: " + limit, indent="      ")


def _file_lines(file: FileSupport) -> Iterator[str]:
    answer = "?" if file.polls is None else _yes(file.polls)
    text = f"{answer:<5}{file.note}".rstrip()
    yield from textwrap.wrap(
        _row(file.kind, text), _WIDTH, subsequent_indent=" " * 31, break_long_words=False
    )


def _row(name: str, value: str) -> str:
    return f"  {name:<24}{value}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _tried(tried: bool, works: bool) -> str:
    return _yes(works) if tried else "not tested"


def _number(value: int | None) -> str:
    return "unknown (no such file in /proc/sys/fs)" if value is None else str(value)


def _wrapped(text: str, indent: str) -> list[str]:
    # Not at hyphens: "aio-max-nr" and "fs.aio-max-nr=65536" are there to be copied.
    return textwrap.wrap(
        text,
        _WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
