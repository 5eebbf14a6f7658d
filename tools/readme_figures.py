"""Writes the README's table of figures from benchmarks/results; `--check` only says if it differs.

For each workload that has an aim its newest result counts.  `--check` looks at the results that
git has, so that a run which nobody has committed fails no test.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import results  # noqa: E402

START = "<!-- figures: generated from benchmarks/results by tools/readme_figures.py -->\n"
END = "<!-- end of figures -->"
PEERS = ("asyncio", "uvloop", "rloop", "c-epoll", "fio", "aiofiles")


def _cell(result: dict[str, Any], mine: str, other: str, metric: str) -> str:
    ratio = result["ratios"].get(mine, {}).get(other, {}).get(metric)
    return "" if ratio is None else f"{ratio:.2f}"


def _row(name: str, result: dict[str, Any], mine: str, metric: str) -> str:
    described = results.METRICS[metric]
    shown = result["contenders"][mine]["median"].get(metric)
    figures = " | ".join(_cell(result, mine, other, metric) for other in PEERS)
    shown_unit = f"{described.show(shown)} {described.unit}".strip()
    title = result["title"] if mine == "aiopoll" else f"{result['title']} ({mine})"
    return f"| {title}: {described.name} | {shown_unit} | {figures} |"


def _counted(turns: set[int]) -> str:
    fewest, most = min(turns, default=0), max(turns, default=0)
    return f"{most} turns" if fewest == most else f"{fewest} to {most} turns"


def table(newest: dict[str, dict[str, Any]]) -> str:
    """The table of the workloads that have an aim, and below it where ours is behind a peer."""
    rows: dict[str, None] = {}
    for aim in results.all_aims():
        result, mine = newest.get(aim["workload"]), aim.get("of", "aiopoll")
        if result is None or "median" not in result["contenders"].get(mine, {}):
            continue
        for metric in dict.fromkeys((result["metric"], aim["metric"])):
            if metric in result["contenders"][mine]["median"]:
                rows[_row(aim["workload"], result, mine, metric)] = None
    if not rows:
        return "No run is committed yet: `make bench` measures.\n"
    runs = {result["run"]["date"]: result["run"] for result in newest.values()}
    turns: dict[str, set[int]] = {date: set() for date in runs}
    for result in newest.values():
        for one in result["contenders"].values():
            if measured := one.get("turns") or one.get("rounds"):  # as older results call them
                turns[result["run"]["date"]].add(len(measured))
    lines = ["| | aiopoll | " + " | ".join(f"to {peer}" for peer in PEERS) + " |"]
    lines += ["|---" * (len(PEERS) + 2) + "|", *rows, ""]
    behind = [
        f"{result['title']} ({loss['ratio']:.2f} to {loss['to']})"
        for result in newest.values()
        for loss in result["losses"]
    ]
    if behind:
        lines += [f"Behind a peer: {'; '.join(behind)}.", ""]
    for run in runs.values():
        versions = ", ".join(
            f"{name} {run['versions'][name]}"
            for name in ("python", "uvloop", "rloop")
            if name in run["versions"]
        )
        machine = run["machine"]
        lines.append(
            f"{run['date'][:10]}, commit {(run['commit'] or 'unknown')[:7]}: {machine['cpu']},"
            f" {machine['cpus']} CPUs, Linux {machine['kernel']}, {versions};"
            f" medians of {_counted(turns[run['date']])}, ratios taken within a turn."
        )
    return "\n".join(lines) + "\n"


def result_files(committed: bool) -> list[Path]:
    command = ["git", "ls-files", "benchmarks/results/*.json"]
    if committed:
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pass
        else:
            if done.returncode == 0:
                return [ROOT / name for name in done.stdout.split()]
    return sorted(results.FOLDER.glob("*.json"))


def expected_readme(committed: bool = False) -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(START)
    after = rest.split(END, 1)[1]
    return f"{before}{START}{table(results.newest(result_files(committed)))}{END}{after}"


def main() -> int:
    path = ROOT / "README.md"
    if sys.argv[1:] == ["--check"]:
        return int(path.read_text(encoding="utf-8") != expected_readme(committed=True))
    path.write_text(expected_readme(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
