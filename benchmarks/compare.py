"""python -m benchmarks.compare A.json B.json: what changed from one run to the other.

Ratios to the peers are compared, for two runs seldom have the same machine; `*` marks a figure of
ours that moved out of the spread of both runs' turns.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.results import METRICS


def moved(before: dict[str, Any], after: dict[str, Any], metric: str) -> bool:
    """Whether no turn of one run lies within the turns of the other."""
    (low, high), (new_low, new_high) = before["spread"][metric], after["spread"][metric]
    return bool(new_low > high or new_high < low)


def lines(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """One for each workload, each of ours, each metric of rate and CPU, and each peer."""
    common = [name for name in before["workloads"] if name in after["workloads"]]
    for name in common:
        old, new = before["workloads"][name], after["workloads"][name]
        metrics = dict.fromkeys([old["metric"], "rate", "cpu_us"])
        for mine, others in new["ratios"].items():
            for metric in metrics:
                one, two = old["contenders"].get(mine, {}), new["contenders"][mine]
                if metric not in one.get("median", {}) or metric not in two["median"]:
                    continue
                was, now = one["median"][metric], two["median"][metric]
                change = f"{(now / was - 1) * 100:+.1f} %" if was else ""
                ratios = [
                    f"{other} {old['ratios'][mine][other][metric]:.2f} → {values[metric]:.2f}"
                    for other, values in others.items()
                    if metric in old["ratios"][mine].get(other, {}) and metric in values
                ]
                described = METRICS[metric]
                mark = "*" if moved(one, two, metric) else " "
                yield (
                    f"{name:28} {mine:16} {described.title:5} {described.show(was):>11} →"
                    f" {described.show(now):>11} {described.unit:4} {change:>9} {mark}"
                    f"  of {', '.join(ratios)}"
                )
    for run, other, what in ((before, after, "before"), (after, before, "after")):
        for name in run["workloads"]:
            if name not in other["workloads"]:
                yield f"{name:28} only {what}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    arguments = parser.parse_args()
    for line in lines(results.load(arguments.before), results.load(arguments.after)):
        print(line)


if __name__ == "__main__":
    main()
