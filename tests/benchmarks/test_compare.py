"""Two packages measured in pairs: the order, the results of the pairs, and the command."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.measure import Failure, Settings
from benchmarks.statistics import COUNT_MIN
from benchmarks.workload import all_workloads

from benchmarks import compare, run

SLOW = """\
import time

class SlowLoop(asyncio.SelectorEventLoop):
    def call_soon(self, *args, **kwargs):
        until = time.perf_counter() + 0.0003
        while time.perf_counter() < until:
            pass
        return super().call_soon(*args, **kwargs)

new_event_loop = SlowLoop
"""


# ---- the pairs ----


class Running:
    """Stands for the processes of a side: each measurement is noted, and is the next figure."""

    def __init__(self, side: str, log: list[str], figures: dict[str, list[float]]) -> None:
        self.side, self.log, self.figures = side, log, figures
        log.append(f"start {side}")

    def measure(self) -> dict[str, float]:
        self.log.append(self.side)
        figure = self.figures[self.side].pop(0)
        if figure < 0:
            raise Failure(f"{self.side} broke\nat {figure}")
        return {"rate": figure, "cpu_us": 1 / figure}

    def close(self) -> None:
        self.log.append(f"end {self.side}")

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def pairs_of(
    rounds: int, samples: int, before: list[float], after: list[float], alone: bool = False
) -> tuple[list[Any], dict[str, str], list[str]]:
    log: list[str] = []
    figures = {"before": before, "after": after}

    def start(side: str) -> Any:
        return Running(side, log, figures)

    pairs, failures = compare.compared(rounds, samples, alone, start)
    return pairs, failures, log


def test_order_alternates_and_each_round_has_new_processes() -> None:
    _, _, log = pairs_of(2, 2, [1.0] * 4, [1.0] * 4)
    first = ["start before", "before", "start after", "after", "after", "before"]
    second = ["start after", "after", "start before", "before", "before", "after"]
    assert log == [*first, "end before", "end after", *second, "end after", "end before"]


def test_a_side_that_is_to_be_alone_runs_alone() -> None:
    _, _, log = pairs_of(1, 1, [1.0], [1.0], alone=True)
    assert log == [
        *("start before", "before", "end before"),
        *("start after", "after", "end after"),
    ]


def test_a_pair_has_the_medians_of_its_round() -> None:
    pairs, failures, _ = pairs_of(2, 3, [1, 9, 2, 10, 30, 20], [4, 4, 8, 40, 10, 40])
    assert failures == {}
    assert [(before["rate"], after["rate"]) for before, after in pairs] == [(2, 4), (20, 40)]


def test_a_failure_ends_the_rounds_and_is_kept() -> None:
    pairs, failures, log = pairs_of(5, 1, [1, -1], [2, 3])
    assert [(before["rate"], after["rate"]) for before, after in pairs] == [(1, 2)]
    assert failures == {"before": "before broke\nat -1"}
    assert log[-1].startswith("end")


# ---- results of the pairs ----


def judged(*ratios: float, limit: float = 0.98) -> list[str]:
    pairs = [({"rate": 100.0, "cpu_us": 7.0}, {"rate": 100 * one, "cpu_us": 7.0}) for one in ratios]
    slower: list[str] = compare.judged(pairs, "rate", limit)["slower"]
    return slower


def test_slower_is_an_interval_wholly_below_the_limit() -> None:
    assert judged(*[0.9, 0.95] * 5) == ["rate"]
    assert judged(*[0.9] * 8, *[0.99] * 8) == []  # the median is below, the interval is not
    assert judged(*[0.985] * 10) == []
    assert judged(*[0.985] * 10, limit=0.99) == ["rate"]
    assert judged(*[1.5] * 10) == []


def test_fewer_pairs_than_an_interval_needs_are_not_judged() -> None:
    assert judged(*[0.5] * (COUNT_MIN - 1)) == []
    assert judged(*[0.5] * COUNT_MIN) == ["rate"]


def test_more_cpu_a_request_is_slower() -> None:
    pairs = [({"rate": 1.0, "cpu_us": 10.0}, {"rate": 1.0, "cpu_us": 11.0})] * 10
    found = compare.judged(pairs, "rate", 0.98)
    assert found["slower"] == ["cpu_us"]
    assert found["ratios"]["cpu_us"] == pytest.approx((1.1, 1.1, 1.1))
    assert compare.judged([pair[::-1] for pair in pairs], "rate", 0.98)["slower"] == []


def test_metric_of_the_workload_comes_first() -> None:
    pairs = [({"rate": 1.0, "stall_ms": 1.0}, {"rate": 1.0, "stall_ms": 3.0})] * 10
    found = compare.judged(pairs, "stall_ms", 0.98)
    assert list(found["ratios"]) == ["stall_ms", "rate"]
    assert found["slower"] == ["stall_ms"]


# ---- the command ----


def compare_clone(clone: Any, revision: str, *options: str) -> tuple[int, dict[str, Any]]:
    output = clone.path.parent / "pairs.json"
    arguments = run.parser().parse_args(
        ["--compare", revision, "--small", "--output", str(output), *options]
    )
    arguments.rounds, arguments.samples = arguments.rounds or COUNT_MIN, 1
    status = compare.run(arguments, run.chosen(arguments), Settings(), clone.path)
    return status, json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}


def change(clone: Any, text: str) -> None:
    path = clone.path / "src" / "aiopoll" / "__init__.py"
    path.write_text(path.read_text() + text)


@pytest.mark.slow
def test_a_slower_checkout_is_found_and_is_status_1(
    clone: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    change(clone, SLOW)
    status, kept = compare_clone(clone, "HEAD", "--workloads", "call-soon")
    head = clone.git("rev-parse", "HEAD")[:7]
    assert status == 1
    found = kept["workloads"]["call-soon"]["implementations"]["aiopoll"]
    assert found["slower"] == ["rate", "cpu_us"]
    assert len(found["pairs"]) == COUNT_MIN
    assert max(found["ratios"]["rate"]) < 0.9
    assert (kept["before"], kept["limit"]) == (f"{head} (HEAD)", 0.98)
    assert kept["after"].startswith(f"the checkout, {head} with changes in src/aiopoll/__init")
    printed = capsys.readouterr().out
    assert kept["after"] in printed
    assert f"slower than {head}, by the whole interval beyond 0.98:" in printed
    assert "call-soon: aiopoll: rate, CPU time" in printed


@pytest.mark.slow
def test_implementation_that_the_revision_lacks_is_left_out(
    clone: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    change(clone, "start_server = asyncio.start_server\n")
    options = ("--workloads", "echo-streams-64B-1", "--rounds", "1")
    status, kept = compare_clone(clone, "HEAD", *options)
    found = kept["workloads"]["echo-streams-64B-1"]["implementations"]
    assert found["aiopoll-streams"] == {"not_in_before": "aiopoll.start_server is not there yet"}
    assert len(found["aiopoll"]["pairs"]) == 1
    printed = capsys.readouterr().out
    assert f"not in {clone.git('rev-parse', 'HEAD')[:7]}" in printed
    assert "nothing is judged: fewer than 6 rounds" in printed
    assert status == 0


def test_program_that_the_revision_cannot_run_is_left_out(
    clone: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    change(clone, "del asyncio.TaskGroup\n")
    clone.commit("broken")
    clone.git("checkout", "--quiet", "HEAD~1")
    revision = clone.git("rev-parse", "HEAD@{1}")
    status, kept = compare_clone(clone, revision, "--workloads", "task-switches", "--rounds", "1")
    (found,) = kept["workloads"]["task-switches"]["implementations"].values()
    assert "TaskGroup" in found["not_in_before"]
    assert status == 2
    assert "nothing could be compared" in capsys.readouterr().err


def test_a_checkout_that_fails_is_status_1(clone: Any, capsys: pytest.CaptureFixture[str]) -> None:
    change(clone, "del asyncio.TaskGroup\n")
    options = ("--workloads", "call-soon", "task-switches", "--rounds", "1")
    status, kept = compare_clone(clone, "HEAD", *options)
    found = kept["workloads"]["task-switches"]["implementations"]["aiopoll"]
    assert "TaskGroup" in found["failure"]
    assert "failed: task-switches: aiopoll: " in capsys.readouterr().out
    assert status == 1


def test_a_package_that_cannot_be_imported_is_an_error(
    clone: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    change(clone, "import no_such_module\n")
    assert compare_clone(clone, "HEAD")[0] == 2
    assert "No module named 'no_such_module'" in capsys.readouterr().err


def test_only_ours_can_be_compared(clone: Any, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--workloads", "call-soon", "--implementations", "asyncio")
    assert compare_clone(clone, "HEAD", *options)[0] == 2
    assert "none of these workloads is about an implementation of" in capsys.readouterr().err
    assert not (clone.path / "build").exists()


def test_an_unknown_revision_is_an_error(clone: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_clone(clone, "no-such")[0] == 2
    assert "aiopoll bench: git knows no commit 'no-such'" in capsys.readouterr().err


def test_the_same_commit_on_both_sides_is_built_once(clone: Any) -> None:
    workload = next(one for one in all_workloads() if one.name == "call-soon")
    sides = compare.sides_of("HEAD", clone.path)
    assert sides.before.source == sides.after.source
    assert len(list((clone.path / "build" / "compare").iterdir())) == 1
    assert compare.plan_of([workload], None, sides.after, {}) == [(workload, ["aiopoll"])]


def test_a_side_whose_package_is_elsewhere_is_an_error(tmp_path: Path) -> None:
    side = compare.Side("x", "the revision", tmp_path)  # without a package: the installed one comes
    with pytest.raises(compare.CannotCompare, match=r"Python takes aiopoll from .* instead"):
        compare._require_import(side)
