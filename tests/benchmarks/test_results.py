"""Results of samples: ratios, goals, metrics slower than peers; and the file in git."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.record import name_of
from benchmarks.statistics import METRICS
from benchmarks.workload import Workload, all_workloads

from benchmarks import results

ROOT = Path(__file__).resolve().parents[2]
README_FIGURES = ROOT / "tools" / "readme_figures.py"


def samples(*rates: float) -> dict[str, Any]:
    return results.summed_up([{"rate": rate, "cpu_us": 1e6 / rate} for rate in rates])


def echo_result(**implementations: dict[str, Any]) -> dict[str, Any]:
    workload = next(one for one in all_workloads() if one.name == "echo-protocol-64B-1")
    return results.workload_result(workload, implementations)


def reached(result: dict[str, Any]) -> list[bool | None]:
    return [goal["reached"] for goal in results.goals_of("echo-protocol-64B-1", result)]


def run_of(date: str, commit: str, **workloads: dict[str, Any]) -> dict[str, Any]:
    record = {
        "date": f"{date}T00:00:00+00:00",
        "commit": commit,
        "changed_since_commit": False,
        "machine": {"cpu": "one", "cpus": 2, "kernel": "7.0"},
        "versions": {"python": "3.11.7"},
    }
    run = results.new_results(record)
    for name, result in workloads.items():
        run["workloads"][name.replace("_", "-")] = {"run": name_of(record), **result}
    return run


def test_ratio_is_the_median_of_the_ratios_of_the_samples() -> None:
    # The machine slows down; from sample to sample ours is ahead by 2, 3 and 2.5.
    result = echo_result(aiopoll=samples(200, 150, 50), uvloop=samples(100, 50, 20))
    assert result["ratios"]["aiopoll"]["uvloop"]["rate"] == (2.5, 2, 3)
    assert result["implementations"]["aiopoll"]["estimates"]["rate"] == (150, 50, 200)
    assert result["implementations"]["aiopoll"]["sample_count"] == 3


def test_goal_is_reached_beside_each_peer_or_not_at_all() -> None:
    def beside(uvloop: float, rloop: float) -> list[bool | None]:
        peers = {"uvloop": samples(uvloop), "rloop": samples(rloop)}
        return reached(echo_result(aiopoll=samples(100), **peers))

    assert beside(40, 40) == [True]
    assert beside(40, 41) == [False]
    assert reached(echo_result(aiopoll=samples(1))) == [None]


def test_slower_than_a_peer_but_not_than_a_reference() -> None:
    implementations = {"aiopoll": samples(10), "uvloop": samples(11), "rloop": samples(9)}
    result = echo_result(**implementations, **{"c-epoll": samples(99)})
    assert results.slower_than_peers(result) == [
        {"of": "aiopoll", "to": "uvloop", "ratio": pytest.approx(10 / 11)}
    ]


def test_a_difference_inside_the_interval_is_none() -> None:
    ours = samples(*(10 + step for step in range(8)))
    result = echo_result(aiopoll=ours, uvloop=samples(*([13.6] * 8)))
    assert results.ratio(result, "aiopoll", "uvloop", "rate") < 1  # type: ignore[operator]
    assert results.slower_than_peers(result) == []
    result = echo_result(aiopoll=ours, uvloop=samples(*([18] * 8)))
    assert len(results.slower_than_peers(result)) == 1


def test_slower_is_more_where_less_is_better() -> None:
    workload = Workload(name="x", title="x", program="x", metric="cpu_us")
    result = results.workload_result(workload, {"aiopoll": samples(5), "uvloop": samples(10)})
    assert [one["ratio"] for one in results.slower_than_peers(result)] == [2]


def test_an_implementation_that_failed_spoils_nothing() -> None:
    failed = {"failure": "it crashed"}
    result = echo_result(aiopoll=samples(10), uvloop=failed, rloop=samples(2))
    assert list(result["ratios"]["aiopoll"]) == ["rloop"]
    assert reached(result) == [True]
    kept = results.condensed(result)
    assert kept["implementations"]["uvloop"] == failed


def test_every_goal_names_known_parts() -> None:
    workloads = {workload.name: workload for workload in all_workloads()}
    for goal in results.all_goals():
        implementations = workloads[goal["workload"]].implementations
        assert goal.get("of", "aiopoll") in implementations
        assert set(goal.get("against", [])) <= set(implementations)
        assert goal["metric"] in METRICS
        assert ("at_most" in goal) != ("at_least" in goal)


def test_a_part_of_the_workloads_replaces_only_these(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    first = run_of(
        "2026-01-01",
        "aaaaaaaa",
        call_soon={"title": "first", **echo_result(aiopoll=samples(10))},
        echo_protocol_64B_1=echo_result(aiopoll=samples(10)),
    )
    second = run_of(
        "2026-02-02", "bbbbbbbb", call_soon=echo_result(aiopoll=samples(20), uvloop=samples(8))
    )
    results.update_latest(first, path)
    results.update_latest(second, path)
    latest = results.load(path)
    assert {name: one["run"] for name, one in latest["workloads"].items()} == {
        "call-soon": "2026-02-02T00:00:00+00:00 bbbbbbb",
        "echo-protocol-64B-1": "2026-01-01T00:00:00+00:00 aaaaaaa",
    }
    assert [record["commit"] for record in latest["runs"].values()] == ["aaaaaaaa", "bbbbbbbb"]
    ours = latest["workloads"]["call-soon"]["implementations"]["aiopoll"]
    assert ours["estimates"]["rate"] == [20, 20, 20]
    assert "samples" not in ours
    assert ours["sample_count"] == 1
    assert latest["workloads"]["call-soon"]["ratios"]["aiopoll"]["uvloop"]["rate"] == [2.5] * 3
    assert [one.name for one in tmp_path.iterdir()] == ["latest.json"]


def test_a_run_of_which_nothing_is_left_goes(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    for date, commit in (("2026-01-01", "aaaaaaaa"), ("2026-02-02", "bbbbbbbb")):
        run = run_of(date, commit, call_soon=echo_result(aiopoll=samples(10)))
        results.update_latest(run, path)
    assert list(results.load(path)["runs"]) == ["2026-02-02T00:00:00+00:00 bbbbbbb"]


def test_a_workload_that_is_no_more_goes() -> None:
    run = run_of("2026-01-01", "aaaaaaaa", call_soon=echo_result(aiopoll=samples(10)))
    latest = results.merged({"runs": {}, "workloads": {}}, run, ["another"])
    assert latest == {"runs": {}, "workloads": {}}


def test_saved_results_have_a_line_for_each_implementation(tmp_path: Path) -> None:
    run = run_of("2026-01-01", "a", call_soon=echo_result(aiopoll=samples(1), uvloop=samples(1)))
    results.save(run, tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(json.dumps(run))
    lines = [line.split(":")[0].strip() for line in text.splitlines()]
    assert lines.count('"uvloop"') == 1
    assert lines.count('"aiopoll"') == 2  # and one for its ratios


def test_committed_results_are_whole_and_without_samples() -> None:
    latest = results.load(results.LATEST)
    assert [path.name for path in results.LATEST.parent.glob("*.json")] == ["latest.json"]
    known = {workload.name for workload in all_workloads()}
    assert set(latest["workloads"]) <= known
    assert {goal["workload"] for goal in results.all_goals()} <= set(latest["workloads"])
    for result in latest["workloads"].values():
        assert {"date", "commit", "machine"} <= set(latest["runs"][result["run"]])
        for one in result["implementations"].values():
            assert "samples" not in one
            if "failure" in one:
                assert "\n" not in one["failure"]
                continue
            assert one["sample_count"] >= 1
            for metric, (median, low, high) in one["estimates"].items():
                assert metric in METRICS
                assert low <= median <= high


def test_readme_table_compares_with_the_best_other_peer() -> None:
    workload = next(one for one in all_workloads() if one.name == "echo-protocol-64B-100")
    rates = {"aiopoll": 12.0, "asyncio": 6.0, "rloop": 10.0, "c-epoll": 24.0, "aiopoll-epoll": 13}
    result = results.workload_result(workload, {name: samples(r) for name, r in rates.items()})
    run = run_of("2026-01-01", "aaaaaaaaaa", echo_protocol_64B_100=result)
    figures = runpy.run_path(str(README_FIGURES))
    table = figures["readme_table"](run).splitlines()
    title = "echo by Protocol, 64B, 100 connections"
    assert table[2:] == [
        f"| {title} | 12.0 /s | 2.00 |  | 1.20 (rloop) | 0.50 (c-epoll) |",
        "",
        "2026-01-01, commit aaaaaaa: one, 2 CPUs, Linux 7.0, python 3.11.7.",
    ]
    assert len(figures["README_ROWS"]) <= 8


def test_a_failure_is_kept_as_one_line() -> None:
    text = "prog: Traceback (most recent call last):\n  File x\nrpc.NoError: lost\nwhile at it"
    assert results.reason_of(text) == "rpc.NoError: lost"
    assert results.reason_of("client: status -9") == "client: status -9"


def test_table_of_programs_says_on_what_they_fail() -> None:
    proxy = {
        **echo_result(aiopoll=samples(10), asyncio=samples(5), veloxloop=samples(20)),
        "title": "a proxy",
    }
    proxy["implementations"]["rloop"] = {"failure": "no such method"}
    run = run_of("2026-01-01", "aaaaaaaaaa", proxy=proxy, other=echo_result(aiopoll=samples(3)))
    lines = runpy.run_path(str(README_FIGURES))["programs"](run)
    assert lines[2] == "| | aiopoll | CPU µs | to asyncio | to rloop | to veloxloop |"
    assert lines[4] == "| a proxy | 10.0 /s | 100,000 | 2.00 | fails | 0.50 |"
    assert lines[5] == ""


def test_page_of_figures_has_every_workload_goal_and_run() -> None:
    run = run_of(
        "2026-01-01",
        "aaaaaaaaaa",
        echo_protocol_64B_1=echo_result(aiopoll=samples(10, 30), uvloop=samples(20, 20)),
        tasks={**echo_result(aiopoll=samples(5)), "title": "tasks that switch"},
    )
    page = runpy.run_path(str(README_FIGURES))["page"](results.merged(run, run, run["workloads"]))
    assert "| echo by Protocol, 64B, 1 connection: rate | 20.0 /s |  | 1.00 |" in page
    assert "| tasks that switch: rate | 5.00 /s |" in page
    assert "| 1.00 | missed |" in page
    assert "commit aaaaaaa: one, 2 CPUs" in page
    assert "medians of 1 to 2 samples" in page


@pytest.mark.subprocess
def test_documents_have_the_committed_figures() -> None:
    done = subprocess.run([sys.executable, str(README_FIGURES), "--check"], timeout=60)
    assert done.returncode == 0, "run python tools/readme_figures.py"
