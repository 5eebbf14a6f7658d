"""A dump as plain text."""

from collections.abc import Iterable, Iterator
from typing import Any

from aiopoll.loop.monitor.records import (
    DescriptorDump,
    FrameDump,
    LoopDump,
    TaskDump,
    ThreadDump,
)

COUNTERS = ("sleeps", "wakes", "in_flight", "submitted", "completed", "cancelled", "ring_reaps")
"""The counters that are always shown; others where they are not 0."""


def text_of(dump: LoopDump) -> str:
    """The whole dump in lines."""
    return "\n".join(map(printable, _lines(dump)))


def printable(text: str) -> str:
    """The text with escapes for what a terminal would obey or cannot show, as in a task's name."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _lines(dump: LoopDump) -> Iterator[str]:
    debug = ", debug mode" if dump.debug else ""
    yield f"{dump.loop} in process {dump.pid}: {dump.state}{debug}"
    yield f"  Python {dump.python}, backend {dump.backend}" + (
        f" ({dump.backend_reason})" if dump.backend_reason else ""
    )
    yield (
        f"  {dump.iterations} iterations, {dump.nr_ready} callbacks ready, {dump.nr_tasks} tasks,"
        f" {dump.nr_descriptors} descriptors, {dump.nr_timers} timers,"
        f" {dump.nr_requests} file requests"
    )
    if dump.missing:
        yield f"  missing: {dump.missing}"
    if dump.thread is not None:
        yield from _thread(dump.thread, "  ")
    yield from _section("tasks", dump.nr_tasks, dump.tasks, _task)
    yield from _section("ready callbacks", dump.nr_ready, dump.ready, lambda each: [each])
    yield from _section("descriptors", dump.nr_descriptors, dump.descriptors, _descriptor)
    yield from _section(
        "timers",
        dump.nr_timers,
        dump.timers,
        lambda each: [
            f"in {each.seconds:.3f} s: {each.callback}{' (cancelled)' if each.cancelled else ''}"
        ],
    )
    yield from _section("file requests", dump.nr_requests, dump.requests, _request)
    for executor in dump.executors:
        yield (
            f"{executor.name}: {executor.nr_threads} of {executor.threads_max} threads,"
            f" {executor.queued} calls wait"
        )
        for thread in executor.threads:
            yield from _thread(thread, "  ")
    if dump.statistics:
        yield "statistics"
        yield "  " + ", ".join(
            f"{name}={value}"
            for name, value in dump.statistics.items()
            if name in COUNTERS or value
        )


def _section(name: str, total: int, shown: tuple[Any, ...], lines: Any) -> Iterator[str]:
    if not total:
        return
    yield f"{name}: {total}" + (f", of which {len(shown)}" if len(shown) < total else "")
    for each in shown:
        for line in lines(each):
            yield "  " + line


def stack_lines(stack: Iterable[FrameDump], indent: str) -> Iterator[str]:
    """One line for each frame."""
    for frame in stack:
        yield f"{indent}{frame.file}:{frame.line} {frame.function}"


def _thread(thread: ThreadDump, indent: str) -> Iterator[str]:
    yield f"{indent}thread {thread.name or thread.ident} (id {thread.native_id})"
    yield from stack_lines(thread.stack, indent + "  ")


def _task(task: TaskDump) -> Iterator[str]:
    line = f"{task.name}: {task.state}, {task.coroutine}"
    if task.awaits is not None:
        line += f", awaits {task.awaits.text}"
    if task.deadline is not None:
        line += f", times out in {task.deadline:.3f} s"
    if task.cancelling:
        line += f", cancelled {task.cancelling} times"
    yield line
    yield from stack_lines(task.stack, "  ")
    if task.made_at:
        made = task.made_at[-1]
        yield f"  made at {made.file}:{made.line} {made.function}"


def _descriptor(each: DescriptorDump) -> Iterator[str]:
    line = f"fd {each.fd} {each.kind} {each.local}"
    if each.peer:
        line += f" - {each.peer}"
    uses = [f"read: {each.reader}"] if each.reader else []
    uses += [f"write: {each.writer}"] if each.writer else []
    state = f"{each.state}, {each.where}"
    if each.armed:
        state += f", polls {' and '.join(each.armed)}"
    yield f"{line.rstrip()} [{state}] {', '.join(uses)}"


def _request(each: Any) -> Iterator[str]:
    line = f"{each.kind} {each.state}"
    if each.file:
        line += f" {each.file!r} fd {each.fd}"
    if each.size:
        line += f", {each.size} bytes at {each.offset}"
    yield line + ("" if each.seconds is None else f", for {each.seconds:.3f} s")
