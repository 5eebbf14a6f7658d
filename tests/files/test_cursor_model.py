"""Sequences of calls, against open(): the same results, the same contents."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import aiopoll

Step = tuple[str, Any]

SIZES = [0, 1, 3, 50, 511, 4096, 5000, 8192, 8193, 70000]
sizes = st.sampled_from(SIZES)
offsets = st.one_of(st.integers(-3, 300), sizes)
BINARY: list[st.SearchStrategy[Step]] = [
    st.tuples(st.just("read"), sizes),
    st.tuples(st.just("read"), st.just(-1)),
    st.tuples(st.just("readline"), st.one_of(st.just(-1), sizes)),
    st.tuples(st.just("readinto"), sizes),
    st.tuples(st.just("write"), sizes),
    st.tuples(st.just("seek"), offsets),
    st.tuples(st.just("seek back"), st.integers(-20, 20)),
    st.tuples(st.just("seek from the end"), st.integers(-20, 5)),
    st.tuples(st.just("tell"), st.none()),
    st.tuples(st.just("truncate"), st.one_of(st.none(), sizes)),
    st.tuples(st.just("flush"), st.none()),
]
TEXT: list[st.SearchStrategy[Step]] = [
    st.tuples(st.just("read"), sizes),
    st.tuples(st.just("read"), st.just(-1)),
    st.tuples(st.just("readline"), st.one_of(st.just(-1), sizes)),
    st.tuples(st.just("write"), sizes),
    st.tuples(st.just("seek"), st.sampled_from([0, 0, 12, 9000])),
    st.tuples(st.just("seek to mark"), st.integers(0, 3)),
    st.tuples(st.just("seek from the end"), st.just(0)),
    st.tuples(st.just("tell"), st.none()),
    st.tuples(st.just("truncate"), st.one_of(st.none(), sizes)),
    st.tuples(st.just("flush"), st.none()),
]
LINES = "".join(f"line {number} of some\n" for number in range(4000))

settled = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def call_of(step: Step, text: bool, marks: list[int]) -> tuple[str, list[Any]]:
    """The method and its arguments."""
    name, value = step
    if name == "write":
        return name, [LINES[7 : 7 + value] if text else LINES[7 : 7 + value].encode()]
    if name == "readinto":
        return name, [bytearray(value)]
    if name == "seek back":
        return "seek", [value, os.SEEK_CUR]
    if name == "seek from the end":
        return "seek", [value, os.SEEK_END]
    if name == "seek to mark":
        return "seek", [marks[value % len(marks)] if marks else 0]
    return name, [] if value is None and name != "truncate" else [value]


def small(error: Exception) -> object:
    return (type(error), getattr(error, "errno", None))


async def answers(file: Any, mode: str, steps: list[Step]) -> list[object]:
    """The result of each step, of open()'s file or of ours."""
    told: list[object] = []
    marks: list[int] = []
    for step in steps:
        name, arguments = call_of(step, "b" not in mode, marks)
        try:
            answer = getattr(file, name)(*arguments)
            if hasattr(answer, "__await__"):
                answer = await answer
        except (OSError, ValueError) as error:
            answer = small(error)
        told.append((step, answer, bytes(arguments[0]) if name == "readinto" else None))
        if name == "tell" and isinstance(answer, int):
            marks.append(answer)
    return told


async def expected(path: Path, mode: str, buffering: int, steps: list[Step]) -> list[object]:
    with path.open(mode, buffering, newline=None if "b" in mode else "") as file:
        return await answers(file, mode, steps)


async def answered(path: Path, mode: str, buffering: int, steps: list[Step]) -> list[object]:
    newline = None if "b" in mode else ""
    async with aiopoll.open(path, mode, buffering, newline=newline) as file:
        return await answers(file, mode, steps)


def same(folder: Path, size: int, mode: str, buffering: int, steps: list[Step]) -> None:
    theirs, ours = folder / "theirs", folder / "ours"
    for path in (theirs, ours):
        path.unlink(missing_ok=True)
        if "x" not in mode:
            path.write_text(LINES[:size])
    told = aiopoll.run(expected(theirs, mode, buffering, steps))
    assert aiopoll.run(answered(ours, mode, buffering, steps)) == told
    assert ours.read_bytes() == theirs.read_bytes()


def flushed(steps: list[Step]) -> list[Step]:
    """With a flush() after each write().

    Until it is written, appended data counts from the position of the cursor.  The size of the
    buffer decides how much is written by itself.
    """
    flush: Step = ("flush", None)
    return [part for step in steps for part in ([step, flush] if step[0] == "write" else [step])]


file_sizes = st.sampled_from([0, 5, 200, 9000, 70000])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["rb", "r+b", "w+b", "x+b", "wb", "a+b", "ab"])
@settled
@given(
    size=file_sizes,
    buffering=st.sampled_from([-1, 0, 2, 4096]),
    steps=st.lists(st.one_of(BINARY), max_size=25),
)
@example(size=9, buffering=0, steps=[("seek", 1), ("write", 0), ("tell", None)])
@example(size=9, buffering=0, steps=[("seek", 1), ("write", 0), ("truncate", None)])
def test_binary(tmp_path: Path, mode: str, size: int, buffering: int, steps: list[Step]) -> None:
    if "a" in mode and buffering:
        steps = flushed(steps)
    if mode in ("wb", "ab"):
        steps = [step for step in steps if step != ("readline", 0)]  # b"" there, of IOBase
    same(tmp_path, size, mode, buffering, steps)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["r", "r+", "w+", "x+", "w", "a+", "a"])
@settled
@given(
    size=file_sizes,
    buffering=st.sampled_from([-1, 1, 10, 4096]),
    steps=st.lists(st.one_of(TEXT), max_size=25),
)
@example(size=70000, buffering=-1, steps=[("readline", -1), ("write", 3)])
@example(size=70000, buffering=-1, steps=[("write", 3), ("readline", -1)])
@example(size=70000, buffering=10, steps=[("readline", -1), ("write", 3)])
def test_text(tmp_path: Path, mode: str, size: int, buffering: int, steps: list[Step]) -> None:
    same(tmp_path, size, mode, buffering, steps)
