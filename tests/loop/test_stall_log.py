"""What is logged of stalls, how often, and what becomes of a handler's exceptions."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import CHILD_SECONDS_MAX

import aiopoll

from .stall_scenes import LIMIT, Reports, run_blocked, sleep, watched


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "asyncio")
    return lambda: [record.getMessage() for record in caplog.records]


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + CHILD_SECONDS_MAX
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def test_the_log_has_the_stall_and_its_stack(logged: Callable[[], list[str]]) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("worker-3")
        while not logged():
            time.sleep(0.2)

    aiopoll.run(main(), watch_stalls=LIMIT)
    (text,) = logged()
    first, heading, *stack = text.split("\n")
    assert first.startswith("The event loop has been blocked for 0.")
    assert "by the task 'worker-3' (made at " in first
    assert "in main: time.sleep(0.2); it waits in clock_nanosleep, outside the GIL" in first
    assert heading == "Stack, most recent call last:"
    assert stack[-1].strip() == "time.sleep(0.2)"


def test_a_place_is_logged_once_and_at_powers_of_ten(logged: Callable[[], list[str]]) -> None:
    with watched(watch_stalls=LIMIT) as loop:

        async def main() -> None:
            for number in range(1, 13):
                while loop.stall_count < number:
                    time.sleep(0.1)
                await asyncio.sleep(0)

        loop.run_until_complete(main())
        wait_until(lambda: len(logged()) >= 2)
        (total,) = loop.stalls()
        assert (total.count, loop.stall_count) == (12, 12)
        assert total.place.line == "time.sleep(0.1)"
        assert 12 * LIMIT <= total.seconds <= CHILD_SECONDS_MAX
    first, tenth = logged()
    assert "has been blocked" in first
    assert tenth.startswith("The event loop was blocked 10 times, for ")
    assert tenth.endswith("in main: time.sleep(0.1)")


def test_a_handler_gets_each_stall_and_nothing_is_logged(logged: Callable[[], list[str]]) -> None:
    stalls: list[aiopoll.Stall] = []

    async def main() -> None:
        for number in range(1, 4):
            while len(stalls) < number:
                time.sleep(0.1)
            await asyncio.sleep(0)

    aiopoll.run(main(), watch_stalls=LIMIT, on_stall=stalls.append)
    assert [stall.count for stall in stalls] == [1, 2, 3]
    assert logged() == []


@pytest.mark.parametrize("raised", [ValueError("of the handler"), SystemExit("of the handler")])
def test_an_exception_of_the_handler_is_not_lost(
    raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def handler(stall: aiopoll.Stall) -> None:
        calls.append(stall)
        raise raised

    async def main() -> None:
        for number in (1, 2):  # the reporter goes on after the first
            while len(calls) < number:
                time.sleep(0.1)
            await asyncio.sleep(0)

    aiopoll.run(main(), watch_stalls=LIMIT, on_stall=handler)
    wait_until(lambda: len(caplog.records) >= 2)
    reported = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert reported == [raised, raised]


def test_what_has_stalled_is_in_the_totals(loop_options: dict[str, Any]) -> None:
    seen = Reports()

    async def main() -> None:
        sleep(seen)

    with watched(watch_stalls=LIMIT, on_stall=seen, **loop_options) as loop:
        assert loop.stalls() == []
        loop.run_until_complete(main())
    (total,) = loop.stalls()  # the loop's last callback, and the loop is closed
    assert total.place == seen.first().place
    assert total.kind is seen.first().kind
    assert total.count == loop.stall_count == 1
    assert total.seconds >= seen.first().duration


def test_an_unwatched_loop_has_no_stalls() -> None:
    with watched() as loop:
        loop.run_until_complete(asyncio.sleep(0))
        assert loop.stalls() == []
        assert loop.stall_count == 0


def test_the_limit_can_change_while_the_loop_runs(logged: Callable[[], list[str]]) -> None:
    seen = Reports()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, aiopoll.EventLoop)
        loop.watch_stalls(LIMIT, seen)
        sleep(seen)
        loop.watch_stalls(None)
        await asyncio.sleep(0)
        time.sleep(6 * LIMIT)
        assert loop.stall_count == 1

    aiopoll.run(main())
    assert len(seen.stalls) == 1
    assert logged() == []


BAD: list[tuple[Any, type[Exception]]] = [
    (-1, ValueError),
    (0.001, ValueError),
    (float("nan"), ValueError),
    (float("inf"), ValueError),
    ("1", TypeError),
    (True, TypeError),
]


@pytest.mark.parametrize(("limit", "error"), BAD)
def test_a_bad_limit_is_refused(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="watch_stalls must be"):
        aiopoll.new_event_loop(watch_stalls=limit)
    with watched() as loop, pytest.raises(error, match="watch_stalls must be"):
        loop.watch_stalls(limit)


def test_a_bad_handler_is_refused() -> None:
    with pytest.raises(TypeError, match="on_stall must be a function"):
        aiopoll.new_event_loop(watch_stalls=1, on_stall=1)  # type: ignore[arg-type]


def test_the_environment_sets_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPOLL_WATCH_STALLS", str(LIMIT))
    seen = Reports()

    async def main() -> None:
        sleep(seen)

    aiopoll.run(main(), on_stall=seen)
    assert seen.first().duration >= LIMIT
    monkeypatch.setenv("AIOPOLL_WATCH_STALLS", "often")
    with pytest.raises(ValueError, match="AIOPOLL_WATCH_STALLS must be a number of seconds"):
        aiopoll.new_event_loop()
    for off in ("", "0"):
        monkeypatch.setenv("AIOPOLL_WATCH_STALLS", off)
        aiopoll.new_event_loop().close()


def test_the_argument_overrules_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPOLL_WATCH_STALLS", "86400")
    assert run_blocked(sleep, {}).duration < CHILD_SECONDS_MAX


def test_a_stall_is_a_mark_in_the_trace(tmp_path: Path) -> None:
    seen = Reports()

    async def main() -> None:
        sleep(seen)

    path = tmp_path / "trace.json"
    aiopoll.run(main(), watch_stalls=LIMIT, on_stall=seen, trace=path)
    marks = [
        event for event in json.loads(path.read_text())["traceEvents"] if event["name"] == "stall"
    ]
    assert [mark["args"]["kind"] for mark in marks] == ["SYSTEM_CALL"]
    assert "time.sleep(0.5)" in marks[0]["args"]["place"]
