"""The run as a whole: medians, ratios, aims, its JSON, and what is made of it."""

import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.workload import Workload, all_workloads

from benchmarks import compare, results

ROOT = Path(__file__).resolve().parents[2]


def turns(*rates: float) -> dict[str, Any]:
    return results.summed_up([{"rate": rate, "cpu_us": 1e6 / rate} for rate in rates])


def echo_result(**contenders: dict[str, Any]) -> dict[str, Any]:
    workload = next(one for one in all_workloads() if one.name == "echo-protocol-64B-1")
    return results.workload_result(workload, contenders)


def test_ratios_are_taken_within_a_turn_and_then_their_median() -> None:
    # The machine slows down; in each turn ours is ahead by 2, 3 and 2.5.
    result = echo_result(aiopoll=turns(200, 150, 50), uvloop=turns(100, 50, 20))
    assert result["ratios"]["aiopoll"]["uvloop"]["rate"] == 2.5
    assert result["contenders"]["aiopoll"]["median"]["rate"] == 150
    assert result["contenders"]["aiopoll"]["spread"]["rate"] == [50, 200]


def test_an_aim_is_reached_beside_each_peer_or_not_at_all() -> None:
    def reached(uvloop: float, rloop: float) -> list[bool | None]:
        result = echo_result(aiopoll=turns(100), uvloop=turns(uvloop), rloop=turns(rloop))
        return [aim["reached"] for aim in result["aims"]]

    assert reached(40, 40) == [True]
    assert reached(40, 41) == [False]
    assert [aim["reached"] for aim in echo_result(aiopoll=turns(1))["aims"]] == [None]


def test_what_loses_is_told_but_not_to_a_reference() -> None:
    contenders = {"aiopoll": turns(10), "uvloop": turns(11), "rloop": turns(9)}
    result = echo_result(**contenders, **{"c-epoll": turns(99)})
    assert result["losses"] == [{"of": "aiopoll", "to": "uvloop", "ratio": pytest.approx(10 / 11)}]


def test_less_is_better_where_the_metric_says_so() -> None:
    workload = Workload(name="x", title="x", program="x", metric="cpu_us")
    result = results.workload_result(workload, {"aiopoll": turns(5), "uvloop": turns(10)})
    assert [loss["ratio"] for loss in result["losses"]] == [2]


def test_a_contender_that_failed_spoils_nothing() -> None:
    result = echo_result(aiopoll=turns(10), uvloop={"failure": "it crashed"}, rloop=turns(2))
    assert list(result["ratios"]["aiopoll"]) == ["rloop"]
    assert [aim["reached"] for aim in result["aims"]] == [True]


def test_every_aim_names_what_there_is() -> None:
    workloads = {workload.name: workload for workload in all_workloads()}
    for aim in results.all_aims():
        contenders = workloads[aim["workload"]].contenders
        assert aim.get("of", "aiopoll") in contenders
        assert set(aim.get("against", [])) <= set(contenders)
        assert aim["metric"] in results.METRICS
        assert ("at_most" in aim) != ("at_least" in aim)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "run.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "aiopoll", "bench", "--small", "--output", str(path)),
            *("--workloads", "call-soon", "echo-protocol-64B-1"),
            *("--contenders", "asyncio", "aiopoll"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "echo-protocol-64B-1" in done.stdout
    assert "aims reached" in done.stdout
    return path


def test_the_command_writes_what_a_run_is(small_run: Path) -> None:
    run = results.load(small_run)
    assert set(run["workloads"]) == {"call-soon", "echo-protocol-64B-1"}
    assert {"commit", "machine", "versions", "settings", "skipped", "date"} <= set(run)
    for result in run["workloads"].values():
        assert list(result["contenders"]) == ["asyncio", "aiopoll"]
        for contender in result["contenders"].values():
            counted = "system_calls" in contender["median"]
            assert counted == (contender["system_calls_reason"] is None)
        assert result["ratios"]["aiopoll"]["asyncio"]["rate"] > 0


def test_runs_are_compared_line_by_line(small_run: Path) -> None:
    before = results.load(small_run)
    after = json.loads(json.dumps(before))
    del after["workloads"]["call-soon"]
    one = after["workloads"]["echo-protocol-64B-1"]["contenders"]["aiopoll"]
    for metric in ("rate", "cpu_us"):
        one["median"][metric] *= 2
        one["spread"][metric] = [2 * bound for bound in one["spread"][metric]]
    lines = list(compare.lines(before, after))
    assert [line.split()[:3] for line in lines[:2]] == [
        ["echo-protocol-64B-1", "aiopoll", "rate"],
        ["echo-protocol-64B-1", "aiopoll", "CPU"],
    ]
    assert all("+100.0 % *" in line for line in lines[:2])
    assert lines[-1].split() == ["call-soon", "only", "before"]


@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None,
    reason="known_gaps.toml: the page of plots",
)
def test_the_report_is_one_page_with_a_plot_for_each_workload(
    small_run: Path, tmp_path: Path
) -> None:
    from benchmarks import report

    page = tmp_path / "report.html"
    report.write([results.load(small_run)] * 2, page)
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == text.count("</svg>") == 2
    assert "http://127" not in text


def test_a_workload_that_is_not_there_is_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aiopoll", "bench", "--workloads", "no-such"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (2, "no workload is called so; --list names them\n")


def test_what_has_to_be_installed_is_named() -> None:
    code = (
        "import runpy, sys; sys.modules['rich'] = None\n"
        "runpy.run_module('benchmarks.run', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "rich is not installed: pip install --group bench" in done.stderr


def test_the_command_says_that_it_needs_a_checkout(tmp_path: Path) -> None:
    code = (
        "import aiopoll.cli.bench as bench\n"
        f"bench.__file__ = {str(tmp_path / 'a' / 'b' / 'c' / 'bench.py')!r}\n"
        "import sys; from aiopoll.cli import main; sys.exit(main(['bench', '--list']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "run it in a checkout" in done.stderr


def test_the_readmes_table_has_the_workloads_with_an_aim(small_run: Path) -> None:
    run = results.load(small_run)
    older = {**run, "date": "2000-01-01", "workloads": {"call-soon": {"title": "an older one"}}}
    older_path = small_run.with_name("older.json")
    results.save(older, older_path)
    tool = runpy.run_path(str(ROOT / "tools" / "readme_figures.py"))
    table = tool["table"](results.newest([small_run, older_path]))
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert [row.split(":")[0] for row in rows[1:]] == [
        "| echo by Protocol, 64B, 1 connection",
        "| call_soon chain",
    ]
    assert "an older one" not in table


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="known_gaps.toml: outside of a clone")
def test_the_readme_has_the_committed_figures() -> None:
    command = [sys.executable, str(ROOT / "tools" / "readme_figures.py"), "--check"]
    done = subprocess.run(command, timeout=60)
    assert done.returncode == 0, "run python tools/readme_figures.py"
