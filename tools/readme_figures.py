"""Writes the README's table of figures from benchmarks/results/latest.json; `--check` compares.

The table has the workloads that have a goal.  `--check` takes the results that git has staged as
well, so that a run which nobody keeps fails no test.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.record import short  # noqa: E402
from benchmarks.statistics import METRICS  # noqa: E402

from benchmarks import results  # noqa: E402

START = "<!-- figures: generated from benchmarks/results by tools/readme_figures.py -->\n"
END = "<!-- end of figures -->"
PEERS = ("asyncio", "uvloop", "rloop", "c-epoll", "fio", "aiofiles")


def _cell(result: dict[str, Any], mine: str, other: str, metric: str) -> str:
    ratio = results.ratio(result, mine, other, metric)
    return "" if ratio is None else f"{ratio:.2f}"


def _row(result: dict[str, Any], mine: str, metric: str) -> str:
    described = METRICS[metric]
    shown = described.show(results.median(result, mine, metric))
    figures = " | ".join(_cell(result, mine, other, metric) for other in PEERS)
    title = result["title"] if mine == "aiopoll" else f"{result['title']} ({mine})"
    return f"| {title}: {described.name} | {f'{shown} {described.unit}'.strip()} | {figures} |"


def _counted(samples: set[int]) -> str:
    fewest, most = min(samples, default=0), max(samples, default=0)
    return f"{most} samples" if fewest == most else f"{fewest} to {most} samples"


def _run_line(record: dict[str, Any], sample_counts: set[int]) -> str:
    versions = ", ".join(
        f"{name} {record['versions'][name]}"
        for name in ("python", "uvloop", "rloop")
        if name in record["versions"]
    )
    machine = record["machine"]
    changed = " with changes" if record["changed_since_commit"] else ""
    return (
        f"{record['date'][:10]}, commit {short(record)}{changed}: {machine['cpu']},"
        f" {machine['cpus']} CPUs, Linux {machine['kernel']}, {versions};"
        f" medians of {_counted(sample_counts)}, ratios taken sample by sample."
    )


def table(latest: dict[str, Any]) -> str:
    """The workloads that have a goal, and below them where ours is slower than a peer."""
    workloads = latest["workloads"]
    rows: dict[str, None] = {}
    for goal in results.all_goals():
        result, mine = workloads.get(goal["workload"]), goal.get("of", "aiopoll")
        if result is None:
            continue
        for metric in (result["metric"], goal["metric"]):
            if results.median(result, mine, metric) is not None:
                rows[_row(result, mine, metric)] = None
    if not rows:
        return "No run is committed yet: `make bench` measures.\n"
    lines = ["| | aiopoll | " + " | ".join(f"to {peer}" for peer in PEERS) + " |"]
    lines += ["|---" * (len(PEERS) + 2) + "|", *rows, ""]
    slower = [
        f"{result['title']} ({one['ratio']:.2f} to {one['to']})"
        for result in workloads.values()
        for one in results.slower_than_peers(result)
    ]
    if slower:
        lines += [f"Slower than a peer: {'; '.join(slower)}.", ""]
    for name, record in latest["runs"].items():
        counts = {
            one["sample_count"]
            for result in workloads.values()
            for one in result["implementations"].values()
            if result["run"] == name and "sample_count" in one
        }
        lines.append(_run_line(record, counts))
    return "\n".join(lines) + "\n"


def staged() -> dict[str, Any] | None:
    """The results as git's index has them; None where there is no git."""
    command = ["git", "show", f":{results.LATEST.relative_to(ROOT)}"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    found: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
    return found


def expected_readme(latest: dict[str, Any]) -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(START)
    after = rest.split(END, 1)[1]
    return f"{before}{START}{table(latest)}{END}{after}"


def main() -> int:
    path, latest = ROOT / "README.md", results.load(results.LATEST)
    if sys.argv[1:] == ["--check"]:
        expected = [expected_readme(one) for one in (latest, staged()) if one]
        return int(path.read_text(encoding="utf-8") not in expected)
    path.write_text(expected_readme(latest), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
