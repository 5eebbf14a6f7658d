"""The reader that the tests of traces trust, and copies of records while others are made."""

import copy
import json
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import CHILD_SECONDS_MAX
from tests.support.trace_events import check, read

from aiopoll.loop.monitor.trace_file import take, trace_events, write
from aiopoll.loop.monitor.tracer import Tracer
from aiopoll.reactor.trace_buffer import RECORD


def meta(name: str, tid: int, value: str) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": 1, "tid": tid, "args": {"name": value}}


def piece(ts: float, dur: float, tid: int = 2) -> dict[str, Any]:
    return {"ph": "X", "name": "slice", "pid": 1, "tid": tid, "ts": ts, "dur": dur}


def end(phase: str, ts: float, number: int = 1) -> dict[str, Any]:
    return {"ph": phase, "cat": "c", "name": "n", "pid": 1, "tid": 2, "ts": ts, "id": number}


RIGHT: dict[str, Any] = {
    "displayTimeUnit": "ms",
    "otherData": {},
    "traceEvents": [
        meta("process_name", 0, "program"),
        meta("thread_name", 2, "thread"),
        *(piece(0, 10), piece(1, 2), piece(3, 7), piece(10, 1)),
        *(end("b", 1), end("e", 20)),
    ],
}


def test_a_right_document_passes() -> None:
    check(RIGHT)


WRONG: dict[str, list[dict[str, Any]]] = {
    "overlap": [piece(20, 10), piece(25, 10)],
    "no thread": [piece(0, 1, tid=3)],
    "no duration": [{"ph": "X", "name": "x", "pid": 1, "tid": 2, "ts": 1}],
    "negative": [piece(30, -1)],
    "text for a time": [{**piece(30, 1), "ts": "1"}],
    "no end": [end("b", 30, 2)],
    "ends before": [end("b", 30, 2), end("e", 29, 2)],
    "unknown phase": [{**piece(30, 1), "ph": "B"}],
    "unknown field": [{**piece(30, 1), "duration": 1}],
    "no scope": [{"ph": "i", "name": "x", "pid": 1, "tid": 2, "ts": 1}],
    "named twice": [meta("thread_name", 2, "other")],
    "no name": [{**piece(30, 1), "name": ""}],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_document_is_found(wrong: str) -> None:
    document = copy.deepcopy(RIGHT)
    document["traceEvents"] += WRONG[wrong]
    with pytest.raises(AssertionError):
        check(document)


def test_what_is_not_json_is_found(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(json.dumps({**RIGHT, "otherData": {"x": float("nan")}}))
    with pytest.raises(ValueError, match="not JSON"):
        read(tmp_path / "x")


def test_copied_records_are_whole_while_others_are_made() -> None:
    tracer = Tracer(256)
    done = threading.Event()

    def record(thread: int) -> None:
        i = thread
        while not done.is_set():
            tracer.collection(i, i, thread, i)
            i += 4

    threads = [threading.Thread(target=record, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    copied = 0
    while copied < 50_000:
        records, _lost = tracer.buffer.copy()
        for at_ns, took_ns, value, _size, _fd, _name, _kind, detail in struct.iter_unpack(
            RECORD, records
        ):
            assert at_ns == took_ns == value
            assert at_ns % 4 == detail
            copied += 1
    done.set()
    for thread in threads:
        thread.join()


def test_a_thread_that_is_gone_has_a_name(tmp_path: Path) -> None:
    tracer = Tracer()
    tracer.enter_thread()
    thread = threading.Thread(target=tracer.instant, args=("mark",))
    thread.start()
    number = thread.native_id
    thread.join()
    document = read(write(tmp_path / "out.json", [take(tracer, 0)]))
    names = {e["tid"]: e["args"].get("name") for e in document["traceEvents"] if e["ph"] == "M"}
    assert names[number] == f"thread {number}"


def test_a_collection_that_two_loops_have_is_written_once() -> None:
    tracers = [Tracer(), Tracer()]
    for tracer in tracers:
        tracer.collection(1000, 500, 2, 7)
    events = list(trace_events([take(tracer, 0) for tracer in tracers]))
    (collection,) = [event for event in events if event.get("cat") == "gc"]
    assert (collection["ts"], collection["dur"]) == (1.0, 0.5)
    assert collection["args"] == {"generation": 2, "collected": 7}


@pytest.mark.subprocess
def test_a_ctrl_c_in_a_collection_is_not_lost() -> None:
    code = """
import ctypes, functools, gc, operator, signal, aiopoll
loop = aiopoll.EventLoop()
loop.start_trace()
send = functools.partial(ctypes.CDLL(None)["raise"], int(signal.SIGINT))
try:
    # No bytecode is between the two, so that the signal is pending when the collector runs.
    list(map(operator.methodcaller("__call__"), [send, gc.collect]))
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=CHILD_SECONDS_MAX
    )
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


def test_times_keep_their_nanoseconds(tmp_path: Path) -> None:
    tracer = Tracer()
    tracer.enter_thread()
    at_ns = 100 * 24 * 3600 * 10**9 + 123456789  # up for a hundred days
    tracer.collection(at_ns, 1, 0, 0)
    (event,) = read(write(tmp_path / "out.json", [take(tracer, 0)]))["traceEvents"][-1:]
    assert round(event["ts"] * 1000) == at_ns
    assert event["dur"] == 0.001
