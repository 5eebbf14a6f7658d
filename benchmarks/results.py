"""The results of a run's samples, and their one file in git: benchmarks/results.

{"runs": {name: {"date", "commit", "changed_since_commit", "machine", "versions", "settings",
                 "skipped": {implementation or workload: reason}}},
 "workloads": {name: {"run": name of its run, "title", "unit", "metric",
    "implementations": {name: {"sample_count", "estimates": {metric: [median, low, high]},
                               "system_calls_reason"}, or {"failure"}},
    "ratios": {ours: {other: {metric: [median, low, high]}}}}}}

A run on its own has "samples" too, [{metric: value}], and is kept in build/bench.  latest.json has
for each workload the newest run that measured it.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.implementations import WAYS
from benchmarks.native import BUILD
from benchmarks.record import name_of, short
from benchmarks.statistics import METRICS, Estimate, estimate, paired_ratios
from benchmarks.workload import ROOT, Workload, all_workloads

LATEST = ROOT / "benchmarks" / "results" / "latest.json"
RUNS = BUILD / "runs"
RATIOS = ("rate", "cpu_us", "p99_us", "context_switches")  # and the workload's own metric
NOT_JUDGED = ("aiopoll-epoll", "aiopoll-threads")
"""The epoll backend is there for comparison, and so is aiopoll with threads for the disk."""


def ours(implementation: str) -> bool:
    return implementation.startswith("aiopoll")


def summed_up(samples: list[dict[str, float]]) -> dict[str, Any]:
    """The summary of an implementation: each metric's estimate over the samples of all rounds."""
    metrics = [metric for metric in METRICS if any(metric in one for one in samples)]
    return {
        "sample_count": len(samples),
        "samples": samples,
        "estimates": {
            metric: estimate(one[metric] for one in samples if metric in one) for metric in metrics
        },
    }


def ratios(implementations: dict[str, Any], metric: str) -> dict[str, Any]:
    """Of each of ours to each other: taken between neighbours, then their estimate."""
    found: dict[str, Any] = {}
    measured = {name: one["samples"] for name, one in implementations.items() if "samples" in one}
    for mine in measured:
        if not ours(mine) or mine in NOT_JUDGED:
            continue
        beside = found[mine] = {}
        for other in measured:
            if other == mine:
                continue
            pairs = {
                name: paired_ratios(measured[mine], measured[other], name)
                for name in dict.fromkeys((metric, *RATIOS))
            }
            beside[other] = {name: estimate(values) for name, values in pairs.items() if values}
    return found


def workload_result(workload: Workload, implementations: dict[str, Any]) -> dict[str, Any]:
    """`implementations`: `summed_up` of each, or a "failure"."""
    return {
        "title": workload.title,
        "unit": workload.unit,
        "metric": workload.metric,
        "implementations": implementations,
        "ratios": ratios(implementations, workload.metric),
    }


# ---- checks of a result ----


def median(result: dict[str, Any], implementation: str, metric: str) -> float | None:
    found = result["implementations"].get(implementation, {}).get("estimates", {}).get(metric)
    return None if found is None else Estimate(*found).median


def ratio(result: dict[str, Any], mine: str, other: str, metric: str) -> float | None:
    found = result["ratios"].get(mine, {}).get(other, {}).get(metric)
    return None if found is None else Estimate(*found).median


def all_goals() -> list[dict[str, Any]]:
    goals: list[dict[str, Any]] = tomllib.loads(
        (ROOT / "benchmarks" / "goals.toml").read_text(encoding="utf-8")
    )["goal"]
    return goals


def goals_of(name: str, result: dict[str, Any]) -> list[dict[str, Any]]:
    """The goals of the workload with the value measured: None where a part of it was not."""
    found = []
    for goal in all_goals():
        if goal["workload"] != name:
            continue
        of, metric = goal.get("of", "aiopoll"), goal["metric"]
        if "against" in goal:
            beside = [ratio(result, of, peer, metric) for peer in goal["against"]]
            values = [value for value in beside if value is not None]
        else:
            values = [value for value in (median(result, of, metric),) if value is not None]
        value = reached = None
        if values:
            value = max(values) if "at_most" in goal else min(values)
            reached = value <= goal["at_most"] if "at_most" in goal else value >= goal["at_least"]
        found.append({**goal, "of": of, "value": value, "reached": reached})
    return found


def goal_text(goal: dict[str, Any]) -> str:
    """`aiopoll: rate ≥ 2.5 of uvloop and of rloop`."""
    limit = f"≤ {goal['at_most']}" if "at_most" in goal else f"≥ {goal['at_least']}"
    peers = goal.get("against", [])
    beside = f" of {' and of '.join(peers)}" if peers else ""
    return f"{goal['of']}: {METRICS[goal['metric']].name} {limit}{beside}"


def slower_than_peers(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The cases where one of ours is worse than a peer in the workload's own metric.

    The whole interval of the ratio is: a difference inside it is none.  The references have no
    Python, and are not peers.
    """
    metric = result["metric"]
    found = []
    for mine in result["ratios"]:
        for other, metrics in result["ratios"][mine].items():
            if ours(other) or other in WAYS or other == "fio" or metric not in metrics:
                continue
            estimated = Estimate(*metrics[metric])
            if METRICS[metric].surely_worse(estimated, 1.0):
                found.append({"of": mine, "to": other, "ratio": estimated.median})
    return found


# ---- the files ----


def new_results(record: dict[str, Any]) -> dict[str, Any]:
    """Of a run that has measured nothing yet."""
    return {"runs": {name_of(record): record}, "workloads": {}}


def default_path(record: dict[str, Any]) -> Path:
    stamp = record["date"][:19].replace(":", "").replace("T", "-")
    return RUNS / f"{stamp}-{short(record)}.json"


def reason_of(failure: str) -> str:
    """The line of a traceback that has the exception, or else the last line."""
    lines = failure.splitlines()
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit)\b", line)]
    return (errors or lines)[-1][:200]


def condensed(result: dict[str, Any]) -> dict[str, Any]:
    """Without its samples, each figure rounded, and of a failure the reason alone."""

    def rounded(estimates: dict[str, Any]) -> dict[str, Any]:
        return {metric: Estimate(*one).rounded() for metric, one in estimates.items()}

    implementations = {}
    for name, one in result["implementations"].items():
        kept = {key: value for key, value in one.items() if key != "samples"}
        if "failure" in kept:
            kept["failure"] = reason_of(kept["failure"])
        if "estimates" in kept:
            kept["estimates"] = rounded(kept["estimates"])
        implementations[name] = kept
    return {
        **result,
        "implementations": implementations,
        "ratios": {
            mine: {other: rounded(one) for other, one in others.items()}
            for mine, others in result["ratios"].items()
        },
    }


def merged(latest: dict[str, Any], run: dict[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """`latest` with the results of `run` in place of its own for those workloads.

    Runs without a workload left are removed, and so are unknown workloads.
    """
    workloads = {**latest["workloads"]}
    for name, result in run["workloads"].items():
        workloads[name] = condensed(result)
    workloads = {name: workloads[name] for name in known if name in workloads}
    runs = {**latest["runs"], **run["runs"]}
    used = {result["run"] for result in workloads.values()}
    return {
        "runs": {name: runs[name] for name in sorted(runs) if name in used},
        "workloads": workloads,
    }


def update_latest(run: dict[str, Any], path: Path = LATEST) -> None:
    latest = load(path) if path.exists() else {"runs": {}, "workloads": {}}
    save(merged(latest, run, [workload.name for workload in all_workloads()]), path)


def _text(value: Any, levels: int, indent: str = "\n") -> str:
    """JSON with a line for each member down to so many levels, so that git shows what changed."""
    if levels == 0 or not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = indent + " "
    members = [f"{json.dumps(key)}: {_text(one, levels - 1, inner)}" for key, one in value.items()]
    return "{" + inner + ("," + inner).join(members) + indent + "}"


def save(results: dict[str, Any], path: Path) -> None:
    """Replaces the file in one step: a run cut short leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(_text(results, 4) + "\n", encoding="utf-8")
    unfinished.replace(path)


def load(path: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results
