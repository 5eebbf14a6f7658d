"""The command: its measurements, files, plots and error messages."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import results, run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "run.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "aiopoll", "bench", "--small", "--output", str(path)),
            *("--workloads", "call-soon", "echo-protocol-64B-1"),
            *("--implementations", "asyncio", "aiopoll"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "echo-protocol-64B-1" in done.stdout
    assert "goals reached" in done.stdout
    return path


@pytest.mark.subprocess
def test_command_writes_the_results_of_a_run(small_run: Path) -> None:
    found = results.load(small_run)
    assert set(found["workloads"]) == {"call-soon", "echo-protocol-64B-1"}
    (record,) = found["runs"].values()
    assert {"commit", "machine", "versions", "settings", "skipped", "date"} <= set(record)
    for result in found["workloads"].values():
        assert result["run"] in found["runs"]
        assert list(result["implementations"]) == ["asyncio", "aiopoll"]
        for one in result["implementations"].values():
            assert len(one["samples"]) == one["sample_count"] == 1
            counted = "system_calls" in one["estimates"]
            assert counted == (one["system_calls_reason"] is None)
        assert results.ratio(result, "aiopoll", "asyncio", "rate") is not None


@pytest.mark.subprocess
def test_a_run_to_a_file_leaves_the_committed_results(small_run: Path) -> None:
    (record,) = results.load(small_run)["runs"].values()
    assert record["date"] not in results.LATEST.read_text(encoding="utf-8")


def test_former_options_go_on_and_help_has_the_new_ones() -> None:
    arguments = run.parser().parse_args(["--aims", "--contenders", "aiopoll", "--turns", "3"])
    assert (arguments.goals, arguments.implementations, arguments.samples) == (True, ["aiopoll"], 3)
    arguments = run.parser().parse_args([])
    assert (arguments.goals, arguments.implementations, arguments.samples) == (False, None, None)
    text = run.parser().format_help()
    assert "--goals" in text
    assert not any(old in text for old in ("aims", "contender", "turns"))


@pytest.mark.subprocess
@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None,
    reason="skips.toml: the page of plots",
)
def test_report_is_one_page_with_a_plot_for_each_workload(small_run: Path, tmp_path: Path) -> None:
    from benchmarks import report

    page = tmp_path / "report.html"
    report.write([results.load(small_run)] * 2, page)
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == text.count("</svg>") == 2
    assert "http://127" not in text


@pytest.mark.subprocess
def test_a_workload_that_is_not_there_is_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aiopoll", "bench", "--workloads", "no-such"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (2, "no workload is called so; --list names them\n")


@pytest.mark.subprocess
def test_missing_package_is_named() -> None:
    code = (
        "import runpy, sys; sys.modules['rich'] = None\n"
        "runpy.run_module('benchmarks.run', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "rich is not installed: pip install --group bench" in done.stderr


@pytest.mark.subprocess
def test_command_reports_that_it_needs_a_checkout(tmp_path: Path) -> None:
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
