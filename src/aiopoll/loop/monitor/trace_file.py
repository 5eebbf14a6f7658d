"""A trace as trace events of Chrome, which ui.perfetto.dev and chrome://tracing open.

Facts (Trace Event Format): a process has threads, a thread has slices.  "X" is a slice with a
duration, "i" an instant, "M" a name; "b" and "e" with one id are the ends of what other things may
overlap.  Times are microseconds, fractions allowed.

Rule: each thread is a track.  What a loop does itself is slices, one within the other; requests of
files and spans are asynchronous.  The order is that of the ends, as recorded.  The simulator's
traces (sim/pages/perfetto.py) have the same shape.

The clock is CLOCK_MONOTONIC: files of several processes of one machine have one time.
"""

import contextlib
import json
import os
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aiopoll.loop.monitor.tracer import Tracer
from aiopoll.reactor.trace_buffer import RECORD
from aiopoll.reactor.trace_kinds import Kind

_CALLS = {1: "EPOLL_CTL_ADD", 2: "EPOLL_CTL_DEL", 3: "EPOLL_CTL_MOD"}
_POLLS = {1: "IN", 2: "PRI", 4: "OUT", 8: "ERR", 16: "HUP", 0x2000: "RDHUP"}
_OPERATIONS = ("read", "write", "sync", "call", "append", "close")
_ROUTES = ("inline", "ring", "thread", "cancelled")
_NEVER = (1 << 63) - 1
Event = dict[str, Any]


class _Record(NamedTuple):
    at_ns: int
    took_ns: int
    value: int
    size: int
    fd: int
    name: int
    kind: int
    detail: int


class Snapshot(NamedTuple):
    """What one thread's tracer had when it was read."""

    thread: int
    thread_name: str
    backend: str
    records: bytes
    lost: int
    names: list[tuple[str, str, int]]
    names_lost: int
    open: list[tuple[int, int, int, int, bytes | None]]
    now_ns: int


def take(tracer: Tracer, now_ns: int) -> Snapshot:
    """Copies what a tracer has; the loop may go on."""
    opened = tracer.open()
    records, lost = tracer.buffer.copy()
    return Snapshot(
        tracer.thread,
        tracer.thread_name,
        tracer.backend,
        records,
        lost,
        list(tracer.names),
        tracer.names_lost,
        opened,
        now_ns,
    )


def trace_events(snapshots: Iterable[Snapshot], since_ns: int = 0) -> Iterator[Event]:
    """Yields the events: names first, then what ended at `since_ns` or later."""
    taken = list(snapshots)
    yield from _names(taken)
    seen: dict[int, None] = {snapshot.thread: None for snapshot in taken}
    numbers = iter(range(1, _NEVER))
    collections: set[tuple[int, int]] = set()
    for snapshot in taken:
        for event in _events_of(snapshot, since_ns, numbers):
            if event["cat"] == "gc":
                # A collection of a thread without a loop is in the trace of each loop.
                key = (event["tid"], event["ts"])
                if key in collections:
                    continue
                collections.add(key)
            if event["tid"] not in seen:
                seen[event["tid"]] = None
                yield _meta("thread_name", event["tid"], name=_name_of_thread(event["tid"]))
            yield event


def is_replaced(path: Path) -> bool:
    """Whether a new file may take the path: nothing is there, or a regular file."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return True


def _open_at_once(path: str, flags: int) -> int:
    """Opens a file; a FIFO that no process reads is refused (ENXIO), not waited for."""
    fd = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(fd, True)
    return fd


def write(
    path: str | os.PathLike[str], snapshots: list[Snapshot], since_ns: int = 0, **more: Any
) -> Path:
    """Writes the trace as JSON, by another name until it is whole; returns its path.

    A device, a FIFO and a link keep their place: they are written to.
    Raises OSError, which names the path.
    """
    target = Path(path)
    replaced = is_replaced(target)
    beside = target
    if replaced:
        beside = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_native_id()}.tmp")
    other = {
        "program": " ".join(_argv()),
        "pid": os.getpid(),
        "clock": "CLOCK_MONOTONIC",
        "records": sum(len(s.records) // struct.calcsize(RECORD) for s in snapshots),
        "records_lost": sum(s.lost for s in snapshots),
        "names_lost": sum(s.names_lost for s in snapshots),
        **more,
    }
    try:
        try:
            with open(beside, "w", encoding="utf-8", opener=_open_at_once) as file:
                file.write('{"displayTimeUnit": "ms", "otherData": ')
                file.write(json.dumps(other, default=str))
                file.write(', "traceEvents": [')
                separator = "\n"
                for event in trace_events(snapshots, since_ns):
                    file.write(separator + json.dumps(event))
                    separator = ",\n"
                file.write("\n]}\n")
            if replaced:
                os.replace(beside, target)
        except BaseException:
            if replaced:
                with contextlib.suppress(OSError):
                    os.unlink(beside)
            raise
    except OSError as error:
        text = f"cannot write the trace: {error.strerror}"
        raise OSError(error.errno, text, os.fspath(path)) from error
    return target


def _argv() -> list[str]:
    """The program's arguments: it may have put other objects there, or there are none."""
    return [str(argument) for argument in getattr(sys, "argv", ())]


def _us(ns: int) -> float:
    return ns / 1000


def _meta(what: str, tid: int, **args: Any) -> Event:
    return {"ph": "M", "name": what, "pid": os.getpid(), "tid": tid, "args": args}


def _names(snapshots: list[Snapshot]) -> Iterator[Event]:
    program = os.path.basename(next(iter(_argv()), "")) or "python"
    yield _meta("process_name", 0, name=program)
    yield _meta("process_sort_index", 0, sort_index=os.getpid())
    for snapshot in snapshots:
        name = f"{snapshot.thread_name} (loop, {snapshot.backend})"
        yield _meta("thread_name", snapshot.thread, name=name)


def _name_of_thread(tid: int) -> str:
    for thread in threading.enumerate():
        if thread.native_id == tid:
            return thread.name
    return f"thread {tid}"


def _events(mask: int) -> str:
    """EPOLLIN and its kin; the other bits, which a wake-up may bring along, are left out."""
    return "|".join(name for bit, name in _POLLS.items() if mask & bit) or "0"


def _named(snapshot: Snapshot, number: int) -> tuple[str, Event]:
    """The name of a number, and the arguments that say where it is from."""
    name, file, line = snapshot.names[number if number < len(snapshot.names) else 0]
    return name, {"source": f"{file}:{line}"} if file else {}


def _read_args(text: bytes) -> Event:
    if not text:
        return {}
    try:
        found = json.loads(text, parse_constant=str)  # JSON has no NaN
    except ValueError:
        found = text.decode("utf-8", "replace")  # it was cut
    return found if isinstance(found, dict) else {"value": found}


def _outcome(count: int, what: str) -> Event:
    return {what: count} if count >= 0 else {"error": os.strerror(-count)}


def _events_of(snapshot: Snapshot, since_ns: int, numbers: Iterator[int]) -> Iterator[Event]:
    texts: list[bytes] = []
    last_ns = 0
    for fields in struct.iter_unpack(RECORD, snapshot.records):
        record = _Record._make(fields)
        if record.kind == Kind.TEXT:
            texts.append(struct.pack("=qqqq", *fields[:4]))
            continue
        text = b"".join(texts).rstrip(b"\0") if texts else b""
        texts.clear()
        if record.kind not in _EVENTS:
            continue
        last_ns = max(last_ns, record.at_ns + record.took_ns)
        if record.at_ns + record.took_ns >= since_ns:
            yield from _json_event(snapshot, record, text, numbers)
    now_ns = max(last_ns, snapshot.now_ns)
    for kind, at_ns, name, value, opened in reversed(snapshot.open):
        record = _Record(at_ns, max(0, now_ns - at_ns), value, 0, 0, name, kind, 0)
        for event in _json_event(snapshot, record, opened or b"", numbers):
            event["args"]["unfinished"] = True
            yield event


def _json_event(
    snapshot: Snapshot, record: _Record, text: bytes, numbers: Iterator[int]
) -> Iterator[Event]:
    event: Event = {
        "ph": "X",
        "cat": "",
        "name": "",
        "pid": os.getpid(),
        "tid": snapshot.thread,
        "ts": _us(record.at_ns),
        "dur": _us(record.took_ns),
        "args": {},
    }
    _EVENTS[record.kind](event, snapshot, record, text)
    if event["ph"] == "i":
        del event["dur"]
        event["s"] = "t"
    if event["ph"] != "b":
        yield event
        return
    del event["dur"]
    event["id"] = next(numbers)
    yield event
    end = {key: value for key, value in event.items() if key != "args"}
    yield {**end, "ph": "e", "ts": _us(record.at_ns + record.took_ns)}


def _callback(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    event["cat"] = "callback"
    event["name"], event["args"] = _named(snapshot, record.name)


def _task(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    event["cat"] = "task"
    event["name"], event["args"] = _named(snapshot, record.name)
    title = text.decode("utf-8", "replace") or f"Task-{record.value}"
    event["args"]["task"] = title


def _iteration(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    event.update(cat="poll", name="poll", args={"ready": record.value})


def _submit(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    args = {"nr": record.value, **_outcome(record.size, "taken")}
    event.update(cat="syscall", name="io_submit", args=args)


def _wait(event: Event, name: str, record: _Record) -> None:
    args = {"timeout_ns": record.value, **_outcome(record.size, "events")}
    event.update(cat="sleep" if record.value else "syscall", name=name, args=args)


def _getevents(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    _wait(event, "io_pgetevents" if record.detail else "io_getevents", record)


def _epoll_wait(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    _wait(event, "epoll_pwait2" if record.detail else "epoll_wait", record)


def _epoll_ctl(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    args: Event = {"operation": _CALLS.get(record.detail, record.detail), "fd": record.fd}
    if record.value:
        args["events"] = _events(record.value)
    if record.size < 0:
        args["error"] = os.strerror(-record.size)
    event.update(cat="syscall", name="epoll_ctl", args=args)


def _cancel(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    args = {"fd": record.fd, **_outcome(record.size, "result")}
    event.update(cat="syscall", name="io_cancel", args=args)


def _busy_poll(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    event.update(cat="poll", name="busy poll", args={"found": bool(record.size)})


def _reap(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    event.update(ph="i", cat="poll", name="reaped from the ring", args={"events": record.value})


def _armed(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    args = {"fd": record.fd, "events": _events(record.value)}
    event.update(ph="i", cat="poll", name=f"armed fd {record.fd}", args=args)


def _ready(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    args = {
        "fd": record.fd,
        "events": _events(record.value),
        "by": "epoll set" if record.detail else "ring",
    }
    event.update(ph="i", cat="poll", name=f"ready fd {record.fd}", args=args)


def _timer(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    event.update(ph="i", cat="timer", name="timer due", args={"late_us": _us(record.value)})


def _wake(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    args = {"loop": snapshot.thread_name}
    event.update(ph="i", cat="wake-up", name="wakes the loop", tid=record.fd, args=args)


def _file(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    operation = _OPERATIONS[record.detail & 15]
    name = _named(snapshot, record.name)[0]
    args: Event = {"file": name, "route": _ROUTES[record.detail >> 4]}
    if operation not in ("call", "close"):
        args.update(fd=record.fd, offset=record.value, size=record.size)
    event.update(ph="b", cat="file", name=f"{operation} {name}".strip(), args=args)


def _collection(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    args = {"generation": record.detail, "collected": record.value}
    event.update(cat="gc", name="garbage collection", tid=record.fd, args=args)


def _instant(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    name = _named(snapshot, record.name)[0]
    event.update(ph="i", cat="mark", name=name, tid=record.fd, args=_read_args(text))


def _span(event: Event, snapshot: Snapshot, record: _Record, text: bytes) -> None:
    name = _named(snapshot, record.name)[0]
    event.update(ph="b", cat="span", name=name, args=_read_args(text))


_EVENTS: dict[int, Callable[[Event, Snapshot, _Record, bytes], None]] = {
    Kind.CALLBACK: _callback,
    Kind.TASK: _task,
    Kind.ITERATION: _iteration,
    Kind.SUBMIT: _submit,
    Kind.GETEVENTS: _getevents,
    Kind.EPOLL_WAIT: _epoll_wait,
    Kind.EPOLL_CTL: _epoll_ctl,
    Kind.CANCEL: _cancel,
    Kind.BUSY_POLL: _busy_poll,
    Kind.REAP: _reap,
    Kind.ARMED: _armed,
    Kind.READY: _ready,
    Kind.TIMER: _timer,
    Kind.WAKE: _wake,
    Kind.FILE: _file,
    Kind.COLLECTION: _collection,
    Kind.INSTANT: _instant,
    Kind.SPAN: _span,
}
