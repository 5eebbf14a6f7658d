"""What is done about a failure, in real worlds: words, states and files."""

import asyncio
import enum
import json
from pathlib import Path

import pytest

from aiopoll import sim
from aiopoll.sim import disk, words
from aiopoll.sim.chaos import GRAIN_NS as CHAOS_GRAIN_NS
from aiopoll.sim.followup import Wishes, file_name, follow_up, narrated
from aiopoll.sim.pages.states import record_states
from aiopoll.sim.run import run_once
from aiopoll.sim.tape import Deviation, Plain, Tape
from aiopoll.sim.tapefile import load
from aiopoll.sim.testing import Options, SimTest
from aiopoll.sim.words import Draw, in_words


class Role(enum.Enum):
    FOLLOWER = 1
    LEADER = 2


async def node(host):
    host.state.role = Role.FOLLOWER
    host.state.term = 0
    host.state.log = []
    while True:
        await asyncio.sleep(1)
        host.state.term += 1
        host.state.log.append(host.state.term)
        if host.name == "n1":
            host.state.role = Role.LEADER


async def elects_one(world):
    nodes = [world.host(f"n{number}", node) for number in range(2)]
    world.always("the clocks agree", lambda: nodes[0].phase == nodes[1].phase)
    await world.sleep(10)


def runner(program, **options):
    test = SimTest(program, Options(**options))
    return test, lambda tape, **more: test.run(tape, {}, **more)


def failing(test, run):
    for seed in range(200):
        outcome = run(test.tape_of(seed))
        if outcome.failed:
            return outcome
    raise AssertionError("no seed fails")


def test_a_fault_of_a_plan_is_named_with_its_host(tmp_path: Path):
    test, run = runner(elects_one, faults=sim.chaos(crashes=0.2))
    finding = follow_up(run, failing(test, run), Wishes("a.py::test_a", folder=tmp_path))
    assert "1 choice of" in finding.report
    assert "a fault began: n0 crash torn=True" in finding.report
    assert "at the clocks agree" in finding.report
    assert finding.tape == tmp_path / f"test_a-{finding.outcome.seed}.json"
    assert len(load(finding.tape).deviations) == 1


def test_a_saved_tape_fails_in_the_same_way(tmp_path: Path):
    test, run = runner(elects_one, faults=sim.chaos(crashes=0.2))
    finding = follow_up(run, failing(test, run), Wishes("a.py::test_a", folder=tmp_path))
    again = run(load(finding.tape).tape(), digest=True)
    assert str(again.error) == str(finding.outcome.error)
    assert again.elapsed_ns == finding.outcome.elapsed_ns


def test_conditions_are_told_apart_by_their_names(tmp_path: Path):
    async def program(world):
        world.host("n0", node)
        world.host("n1", node)
        for name in ("n0", "n1"):
            host = world.host(name)
            world.always(f"{name} runs", lambda host=host: host.running)
        await world.sleep(20)

    test, run = runner(program, faults=sim.chaos(crashes=0.2))
    outcomes = [run(test.tape_of(seed)) for seed in range(40)]
    places = {outcome.error.place for outcome in outcomes if outcome.failed}
    assert places == {"n0 runs", "n1 runs"}
    for place in places:
        outcome = next(found for found in outcomes if found.failed and found.error.place == place)
        finding = follow_up(run, outcome, Wishes("a.py::test_a", folder=tmp_path))
        assert finding.outcome.error.place == place
        assert len(finding.outcome.tape.deviations) <= 2


def test_states_of_hosts_are_recorded_when_they_change():
    async def program(world):
        world.host("n0", node)
        world.host("n1", node)
        await world.sleep(1.5)

    outcome = run_once(program, Tape(Plain()), recording=True, prepare=record_states)
    states = [(e.at_ns // 10**9, e.host, e.data) for e in outcome.events if e.kind == "state"]
    assert states == [
        (0, "n0", {"role": "FOLLOWER", "term": 0}),
        (0, "n1", {"role": "FOLLOWER", "term": 0}),
        (1, "n0", {"term": 1}),
        (1, "n1", {"role": "LEADER", "term": 1}),
    ]


def test_recording_changes_no_run():
    async def program(world):
        world.host("n0", node)
        world.host("n1", node)
        await world.sleep(30)

    test, run = runner(program, faults=sim.chaos(crashes=0.1, partitions=0.1, pauses=0.1))
    for seed in range(5):
        outcome = run(test.tape_of(seed), digest=True)
        again, _ = narrated(run, outcome)
        assert again.digest == outcome.digest


def test_partitions_are_on_the_page(tmp_path: Path):
    async def program(world):
        world.host("n0", node)
        world.host("n1", node)
        await world.sleep(1)
        world.partition("n0", ["n1"])
        await world.sleep(1)
        world.heal()
        await world.sleep(1)
        raise ValueError

    _, run = runner(program)
    wishes = Wishes("a.py::test_a", folder=tmp_path, trace=tmp_path / "run.json")
    finding = follow_up(run, run(Tape(Plain())), wishes)
    names = {event["name"] for event in json.loads(finding.pages[0].read_text())["traceEvents"]}
    assert {"partition n0 | n1=n0 | n1", "heal", "term", "role=LEADER"} <= names
    assert "partition of n0 | n1: no packet was sent across it" in finding.report


def test_grains_and_fates_are_those_that_are_drawn():
    assert words.DISK_GRAIN_NS == disk.GRAIN_NS
    assert words.CHAOS_GRAIN_NS == CHAOS_GRAIN_NS
    fates = (words.LOST, words.PREFIX, words.SUBSET, words.KEPT)
    assert fates == (disk.LOST, disk.PREFIX, disk.SUBSET, disk.KEPT)


@pytest.mark.parametrize(
    ("label", "value", "text"),
    [
        ("n1 fsync delay", 40_000, "n1's 3rd fsync took 40 ms more"),
        ("n1 slow fsync", 1, "n1's 3rd fsync was slow"),
        ("n1 torn log.bin", 3, "n1's crash kept all of its un-fsynced log.bin"),
        ("n1 torn log.bin", 1, "n1's crash kept the first part of its un-fsynced log.bin"),
        ("n1 torn log.bin write", 2, "n1's crash tore a write to log.bin after 2 sectors"),
        ("chaos crash", 1, "a fault began: crash"),
        ("chaos crash whom", 1, "the 3rd crash met the 2nd host that ran"),
        ("chaos partition lasts", 3, "the 3rd partition lasted 150 ms longer"),
        ("chaos partition side of n2", 1, "the 3rd partition had n2 on its other side"),
        ("buggify cache at all", 1, "the site 'cache' may misbehave in this run"),
        ("buggify cache", 1, "'cache' misbehaved, at its 3rd time"),
        ("n1 loop 2 step", 1, "n1 loop 2 ran its 2nd ready callback first"),
    ],
)
def test_draws_of_the_parts_have_words(label: str, value: int, text: str):
    assert in_words(Draw(Deviation(label, 2, value))) == text


@pytest.mark.parametrize(
    ("test", "name"),
    [("tests/a.py::test_b", "test_b"), ("a.py::test_b[x/../y 1]", "test_b-x-..-y-1"), ("", "test")],
)
def test_file_names_of_tests_have_no_separators(test: str, name: str):
    assert file_name(test) == name
