"""Reports: deviations in words, tasks with their stacks, faults that did nothing."""

import asyncio
from typing import Any

import pytest
from tests.sim import outcomes
from tests.sim.outcomes import Event, KeptTape, Outcome, failed

from aiopoll.sim import words
from aiopoll.sim.failure import failure_of, trimmed
from aiopoll.sim.report import Context, describe, idle_faults
from aiopoll.sim.tape import Deviation, Tape, replay_of
from aiopoll.sim.waiting import describe_tasks
from aiopoll.sim.words import Draw, Narrating, duration, in_words, phrase


@pytest.mark.parametrize(
    ("label", "ordinal", "value", "text"),
    [
        ("n2>n0 delay", 4, 40_000_000, "n2's 5th packet to n0 was 40 ms late"),
        ("n2>n0 loss", 0, 1, "n2's 1st packet to n0 was lost"),
        ("n2>n0 duplicate", 1, 1, "n2's 2nd packet to n0 arrived twice"),
        ("n1 fsync error", 2, 1, "n1's 3rd fsync failed"),
        ("n1 torn log.bin", 0, 2, "n1's crash kept some pages of its un-fsynced log.bin"),
        ("n1 step", 9, 1, "n1 ran its 2nd ready callback first"),
        ("hosts", 9, 2, "the 3rd host that was ready ran first"),
        ("a part's own", 10, 3, "a part's own, number 11: 3 instead of 0"),
    ],
)
def test_deviations_are_put_into_words(label: str, ordinal: int, value: int, text: str):
    assert in_words(Draw(Deviation(label, ordinal, value))) == text


def test_a_repeated_run_names_its_tasks():
    strategy = Narrating([Deviation("n0 step", 1, 2), Deviation("hosts", 0, 1)])
    tape = Tape(strategy)
    for keys in (["a", "b"], ["append", "read", "election"]):
        tape.pick("n0 step", len(keys), lambda keys=keys: keys)
    tape.pick("hosts", 2, lambda: ["n0", "n1"])
    assert [in_words(draw) for draw in strategy.draws(tape.deviations)] == [
        "n0 ran 'election' before 'append'",
        "n1 ran before n0",
    ]


def test_parts_add_phrases_of_their_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(words, "_phrases", list(words._phrases))
    phrase(r"(\S+) clock")(lambda match, draw: f"{match[1]}'s clock jumped {draw.value} s")
    assert in_words(Draw(Deviation("n3 clock", 0, 2))) == "n3's clock jumped 2 s"
    assert in_words(Draw(Deviation("n3 clock skew", 0, 2))).startswith("n3 clock skew")
    phrase(r"n3 step")(lambda match, draw: "the part's own words")
    assert in_words(Draw(Deviation("n3 step", 0, 2))) == "the part's own words"


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (999, "999 ns"),
        (1_500, "1.5 µs"),
        (40_000_000, "40 ms"),
        (12_400_000_000, "12.4 s"),
        (3_600_000_000_000, "3,600 s"),
    ],
)
def test_durations_have_the_unit_that_suits(ns: int, text: str):
    assert duration(ns) == text


def whole_report(**options: Any) -> str:
    deviations = [
        Deviation("n2>n0 delay", 4, 40_000_000, 1_204_000_000),
        Deviation("n1 step", 1, 1, 1_300_000_000),
    ]
    outcome = Outcome(
        KeptTape(deviations),
        failed("two leaders in term 3 " + "and more words " * 12),
        [
            Event(1_000, "partition", None, {"side_a": ["n0"], "side_b": ["n1", "n2"]}),
            Event(2_000, "crash", "n1"),
            Event(3_000, "note", "n0", {"event": "leader", "term": 3}),
        ],
        ["n0: run_node (Task-3) waits", "    raft.py:88 in run: await timer"],
    )
    context = Context(["pytest tests/test_raft.py::test_raft --sim-seed=17"], 4212, 130)
    return describe(outcome, context, **options)


def test_a_report_has_its_parts_in_order():
    text = whole_report()
    parts = [
        "seed 17, after 12.4 s of virtual time: AssertionError: two leaders",
        "  pytest tests/test_raft.py::test_raft --sim-seed=17",
        "2 choices of 4,212 are needed (130 runs)",
        "1.204000 s  n2's 5th packet to n0 was 40 ms late",
        "1.300000 s  n1 ran its 2nd ready callback first",
        "What waits",
        "n0: run_node (Task-3) waits",
        "      raft.py:88 in run: await timer",
        "Faults",
        "partition of n0 | n1, n2: 1",
        "n1: crashes: 1",
        "Faults that did nothing",
        "partition of n0 | n1, n2: no packet was sent across it",
        "Last notes",
        "n0: leader term=3",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places), text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_wider_than_asked_for(width: int):
    lines = whole_report(width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert max(map(len, lines)) > width - 20


def test_only_a_terminal_gets_colours():
    assert "\x1b" not in whole_report()
    assert "\x1b[1;31mseed 17" in whole_report(color=True)


def test_a_plain_failure_needs_no_choice():
    assert "no choice is needed" in describe(Outcome(replay_of([], seed=1), failed("x")))


def test_long_lists_are_cut_and_say_so():
    kept = [Deviation("n0 step", number, 1) for number in range(500)]
    outcome = Outcome(KeptTape(kept), failed("x"))
    text = describe(outcome)
    assert "… 480 more …" in text
    assert text.count("ready callback") == 20


def test_a_run_that_differs_each_time_is_called_so():
    outcome = Outcome(replay_of([], seed=1), failed("x"))
    assert "not the same each time" in describe(outcome, Context(is_deterministic=False))
    assert "not the same each time" not in describe(outcome)


def partition(at_ns: int) -> Event:
    return Event(at_ns, "partition", None, {"side_a": ["n0"], "side_b": ["n1"]})


def packet(src: str, dst: str, arrive_ns: int | None) -> Event:
    return Event(0, "packet", src, {"src": src, "dst": dst, "arrive_ns": arrive_ns, "fate": "cut"})


@pytest.mark.parametrize(
    ("events", "count"),
    [
        ([partition(1), packet("n0", "n1", None)], 0),
        ([partition(1), packet("n1", "n0", None)], 0),
        ([partition(1), packet("n0", "n1", 5)], 1),
        ([partition(1), packet("n0", "n2", None)], 1),
        ([partition(1), Event(2, "heal"), packet("n0", "n1", None)], 1),
        ([packet("n0", "n1", None), partition(1)], 1),
        ([partition(1), partition(2), packet("n0", "n1", None)], 0),
    ],
)
def test_partitions_without_packets_did_nothing(events: list[Event], count: int):
    assert len(idle_faults(events)) == count


def test_waiting_tasks_show_the_innermost_lines():
    async def inner(event: asyncio.Event) -> None:
        await event.wait()

    async def outer(event: asyncio.Event) -> None:
        await inner(event)

    async def main() -> list[str]:
        event = asyncio.Event()
        task = asyncio.create_task(outer(event), name="election")
        done = asyncio.create_task(asyncio.sleep(0), name="done")
        await asyncio.sleep(0.001)
        assert done.done()
        unnamed = asyncio.create_task(inner(event))
        await asyncio.sleep(0)
        lines = describe_tasks("n0", [task, done, unnamed])
        task.cancel()
        unnamed.cancel()
        return lines

    heading, first, second, unnamed, _ = asyncio.run(main())
    assert heading == "n0: election waits"
    assert unnamed.startswith("n0: inner (Task-")
    assert first.endswith("in outer: await inner(event)")
    assert second.endswith("in inner: await event.wait()")


def test_a_failure_of_a_group_is_its_first_one():
    error = failed("x")
    group = ExceptionGroup("several", [ExceptionGroup("inner", [error]), ValueError()])
    assert failure_of(group) == failure_of(error)
    assert failure_of(error).kind == "AssertionError"
    assert failure_of(error).place.startswith(f"{outcomes.__file__}:")


def test_an_error_with_a_place_of_its_own_keeps_it():
    error = failed("x")
    error.place = "always: one leader a term"  # type: ignore[attr-defined]
    assert failure_of(error).place == "always: one leader a term"


def test_frames_before_the_program_are_trimmed():
    with pytest.raises(ValueError, match="inner") as caught:
        asyncio.run(_raises())
    error = caught.value
    # From asyncio's frame on, as where a runner of the package called it.
    error = trimmed(error.with_traceback(error.__traceback__.tb_next))
    assert error.__traceback__.tb_frame.f_code.co_name == "_raises"


async def _raises() -> None:
    raise ValueError("inner")
