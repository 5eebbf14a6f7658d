"""The lines of `aiopoll top`: what is shown, whichever way."""

import os
import sysconfig
from collections.abc import Iterable, Iterator
from typing import Any

from aiopoll.cli.top_ask import STUCK_S, Process
from aiopoll.loop.monitor.dump_text import printable

_LIBRARIES = tuple(
    path + os.sep
    for path in (
        sysconfig.get_path("stdlib"),
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    )
)
_PARTS = ("/asyncio/", "/concurrent/futures/", "/threading.py", "/aiopoll/")


def number(value: float | None) -> str:
    """In at most five characters; "-" for what is not known yet."""
    if value is None:
        return "-"
    for unit in ("", "k", "M", "G"):
        if value < 9999.5 or unit == "G":
            break
        value /= 1000
    return f"{value:.0f}{unit}" if value >= 10 or value == int(value) else f"{value:.1f}{unit}"


def duration(seconds: float) -> str:
    """In seconds, minutes, hours or days, in at most six characters."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} m"
    return f"{seconds / 3600:.1f} h" if seconds < 86400 * 2 else f"{seconds / 86400:.0f} d"


def is_stuck(loop: dict[str, Any]) -> bool:
    """Whether one callback has run for long."""
    return bool(loop["state"] == "running" and loop["unchanged"] >= STUCK_S)


def place_of(stack: list[dict[str, Any]]) -> str:
    """The innermost line that is the program's own, as file:line."""
    own = [line for line in stack if not _is_library(line["file"])]
    for line in (own or stack)[-1:]:
        return f"{os.path.basename(line['file'])}:{line['line']}"
    return ""


def _is_library(file: str) -> bool:
    return file.startswith(("<", *_LIBRARIES)) or any(part in file for part in _PARTS)


def title(process: Process | None, pid: int, share: float | None) -> str:
    """The process in one line."""
    if process is None:
        return f"process {pid}"
    cpu = "" if share is None else f"  CPU {100 * share:.0f} %"
    return f"process {pid}{cpu}  {len(process.threads)} threads  {printable(process.command)}"


def state_line(loop: dict[str, Any]) -> str:
    """What a loop does now, and where."""
    thread = loop["thread"]
    name = "no thread" if thread is None else thread["name"] or str(thread["ident"])
    state = loop["state"]
    if is_stuck(loop):
        state = f"STUCK for {duration(loop['unchanged'])}"
    line = f"{name}  {loop['backend']}  {state}"
    if loop["state"] == "running" and thread is not None and thread["stack"]:
        last = thread["stack"][-1]
        line += f" in {last['function']} ({place_of(thread['stack'])})"
    return printable(line) + ("  debug mode" if loop["debug"] else "")


def figures(loop: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, number) of a loop's counts and rates."""
    rates = loop.get("rates") or {}
    return [
        ("iterations/s", number(rates.get("iterations"))),
        ("callbacks/s", number(rates.get("callbacks"))),
        ("ready", number(loop["nr_ready"])),
        ("tasks", number(loop["nr_tasks"]) + _looked_at(loop)),
        ("timers", number(loop["nr_timers"])),
        ("watched", number(loop["nr_descriptors"])),
        ("in flight", number(loop["statistics"].get("in_flight", 0))),
        ("file requests", number(loop["nr_requests"])),
        ("sleeps/s", number(rates.get("sleeps"))),
        ("ring reaps/s", number(rates.get("ring_reaps"))),
    ]


def _looked_at(loop: dict[str, Any]) -> str:
    found = len(loop["tasks"])
    return f" ({found} below)" if found < loop["nr_tasks"] else ""


def task_rows(loop: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """(tasks, for how long, what they await, where, coroutine); those of one kind together.

    Tasks that run are first, then those that have waited longest.
    """
    groups: dict[Any, list[dict[str, Any]]] = {}
    for task in loop["tasks"]:
        awaits = task["awaits"] or {}
        key = (task["state"], task["coroutine"], place_of(task["stack"]), awaits.get("kind"))
        groups.setdefault(key, []).append(task)
    order = {"running": 0, "ready": 1, "waiting": 2}
    rows = []
    for (state, coroutine, where, _), tasks in groups.items():
        waited = max(task.get("waited", 0.0) for task in tasks)
        since = ">" if any(task.get("waited_before") for task in tasks) else ""
        first = tasks[0]
        text = first["awaits"]["text"] if first["awaits"] else state
        if first["deadline"] is not None:
            text += f", times out in {duration(first['deadline'])}"
        name = first["name"] if len(tasks) == 1 else f"{len(tasks)} tasks"
        if len(tasks) > 1 and len({_text(task) for task in tasks}) > 1:
            text += ", …"
        rows.append(
            (
                (order[state], -waited, -len(tasks)),
                (name, since + duration(waited), text, where, coroutine),
            )
        )
    return [row for _, row in sorted(rows, key=lambda each: each[0])]


def _text(task: dict[str, Any]) -> str:
    return str(task["awaits"]["text"]) if task["awaits"] else ""


def descriptor_rows(loop: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """(fd, kind, what for, state, addresses) of the watched descriptors."""
    rows = []
    for each in loop["descriptors"]:
        uses = [each["reader"] or "", each["writer"] or ""]
        use = " / ".join(use.partition(" at ")[0] for use in uses if use)
        addresses = " - ".join(part for part in (each["local"], each["peer"]) if part)
        where = "ring" if each["where"] == "ring" else each["state"].lower().replace("_", " ")
        rows.append((str(each["fd"]), each["kind"], use, where, addresses))
    return rows


def thread_rows(process: Process) -> list[tuple[str, str, str, str, str]]:
    """(tid, name, state, CPU time, kernel function) of the threads, as /proc has them."""
    return [
        (
            str(each.tid),
            each.name,
            _STATES.get(each.state, each.state),
            f"{each.cpu:.1f} s",
            each.call,
        )
        for each in process.threads
    ]


_STATES = {
    "R": "runs",
    "S": "sleeps",
    "D": "waits in the kernel",
    "T": "stopped",
    "t": "traced",
    "Z": "ended",
}


def table(rows: Iterable[tuple[str, ...]], heads: tuple[str, ...]) -> Iterator[str]:
    """Rows under their heads, in columns, as plain text."""
    all_rows = [heads, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in all_rows) for column in range(len(heads))]
    for row in all_rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


TASK_HEADS = ("TASK", "FOR", "AWAITS", "WHERE", "COROUTINE")
DESCRIPTOR_HEADS = ("FD", "KIND", "FOR", "STATE", "ADDRESSES")
THREAD_HEADS = ("THREAD", "NAME", "STATE", "CPU", "KERNEL")


def plain(reply: dict[str, Any], process: Process | None, share: float | None) -> Iterator[str]:
    """All of it, as plain text."""
    yield title(process, reply["pid"], share)
    if not reply["loops"]:
        yield "no event loop is open"
    for loop in reply["loops"]:
        yield ""
        yield state_line(loop)
        yield "  ".join(f"{name} {value}" for name, value in figures(loop))
        for rows, heads in (
            (task_rows(loop), TASK_HEADS),
            (descriptor_rows(loop), DESCRIPTOR_HEADS),
        ):
            if rows:
                yield ""
                yield from table(rows, heads)
