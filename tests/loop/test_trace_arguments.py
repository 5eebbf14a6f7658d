"""Traces of programs whose arguments, names and times are not what they should be."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.trace_events import read

import aiopoll
from aiopoll.loop.monitor import tracing


class Odd:
    def __repr__(self) -> str:
        raise ZeroDivisionError


def circle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def nested() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


ARGUMENTS: dict[str, tuple[Any, Any]] = {
    "no number": (float("nan"), "NaN"),
    "infinite": ([float("inf"), 1], ["Infinity", 1]),
    "keys that are no names": ({(1, 2): 3}, "{(1, 2): 3}"),
    "circle": (circle(), "[[...]]"),
    "no repr": (Odd(), "Odd object"),
    "long number": (10**5000, "int object"),
    "deep": (nested(), "list object"),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_any_argument_is_written_as_json(kind: str, tmp_path: Path) -> None:
    value, written = ARGUMENTS[kind]

    async def main() -> Path:
        loop: Any = asyncio.get_running_loop()
        loop.start_trace(tmp_path / "out.json")
        with aiopoll.trace_span("span", value=value):
            pass
        path: Path = loop.stop_trace()
        return path

    events = read(aiopoll.run(main()))["traceEvents"]
    (begin,) = [e for e in events if e.get("cat") == "span" and e["ph"] == "b"]
    assert begin["args"] == {"value": written}


def test_a_span_without_a_name_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="must be a str, not 5"):
        aiopoll.trace_span(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("argv", [[Path("x"), 5], [5], [], None], ids=str)
def test_the_programs_arguments_may_be_anything(
    argv: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if argv is None:
        monkeypatch.delattr(sys, "argv")
    else:
        monkeypatch.setattr(sys, "argv", argv)
    loop = aiopoll.EventLoop()
    loop.start_trace(tmp_path / "out.json")
    loop.run_until_complete(asyncio.sleep(0))
    path: Any = loop.stop_trace()
    loop.close()
    assert read(path)["otherData"]["program"] == " ".join(map(str, argv or ()))


def test_seconds_are_checked(tmp_path: Path) -> None:
    loop = aiopoll.EventLoop()
    loop.start_trace(tmp_path / "out.json")
    loop.run_until_complete(asyncio.sleep(0))
    try:
        for last in (-1, float("nan")):
            with pytest.raises(ValueError, match="last must be 0 or more seconds"):
                loop.write_trace(last=last)
        whole = len(read(loop.write_trace())["traceEvents"])
        for last in (float("inf"), 1e300):
            assert len(read(loop.write_trace(last=last))["traceEvents"]) == whole
    finally:
        loop.close()


def test_a_stop_in_the_midst_of_a_start_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    use = tracing.Trace.use

    def interrupted(self: tracing.Trace, loop: Any) -> None:
        use(self, loop)
        loop.stop_trace()  # as a signal's handler may

    monkeypatch.setattr(tracing.Trace, "use", interrupted)
    loop = aiopoll.EventLoop()
    loop.start_trace()
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="traced already"):
        loop.start_trace()
    loop.close()


@pytest.mark.parametrize("fault", ["no memory", "signal"])
def test_what_keeps_the_process_from_a_trace_is_a_line(
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_memory(size: int) -> None:
        raise MemoryError("no memory")

    monkeypatch.setenv(tracing.VARIABLE, str(tmp_path / "out.json"))
    monkeypatch.setenv(tracing.OWNER, "1")
    monkeypatch.setattr(tracing, "_failed", None)
    monkeypatch.setattr(tracing, "_of_process", None)
    if fault == "signal":
        monkeypatch.setenv(tracing.SIGNAL, "KILL")
    else:
        monkeypatch.setattr(tracing, "Tracer", no_memory)
    before = set(tracing._open)
    aiopoll.EventLoop().close()
    assert tracing._open == before
    assert "aiopoll: no trace: " in capsys.readouterr().err
