"""What is made of the turns: medians, spreads, ratios within a turn, aims; and the JSON of it.

{"date", "commit", "machine", "versions", "settings", "skipped": {contender or workload: reason},
 "workloads": {name: {"title", "unit", "metric",
    "contenders": {name: {"turns": [{metric: value}], "median", "spread": {metric: [low, high]},
                          "system_calls_reason", "failure"}},
    "ratios": {ours: {other: {metric: median of ours by other}}},
    "aims": [{…, "value", "reached"}], "losses": [{"of", "to", "ratio"}]}}}
"""

import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.contenders import REFERENCES
from benchmarks.measure import Settings
from benchmarks.native import BUILD
from benchmarks.workload import ROOT, Workload

FOLDER = ROOT / "benchmarks" / "results"
PACKAGES = (
    *("uvloop", "rloop", "uvicorn", "httptools", "aiohttp"),
    *("caio", "aiofiles", "anyio", "Cython"),
)


@dataclass(frozen=True)
class Metric:
    title: str  # in a table of many
    name: str  # in a sentence
    unit: str
    more_is_better: bool = False
    scale: float = 1.0  # the unit shown is so much of the unit kept

    def show(self, value: float | None) -> str:
        if value is None:
            return "-"
        value /= self.scale
        digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
        return f"{value:,.{digits}f}"


# CPU, switches and calls are the server's; each is for one operation.
METRICS = {
    "rate": Metric("rate", "rate", "/s", more_is_better=True),
    "cpu_us": Metric("CPU", "CPU time", "µs"),
    "p50_us": Metric("p50", "latency p50", "µs"),
    "p99_us": Metric("p99", "latency p99", "µs"),
    "context_switches": Metric("switches", "context switches", ""),
    "system_calls": Metric("calls", "system calls", ""),
    "peak_memory": Metric("memory", "peak memory", "MiB", scale=1 << 20),
    "connection_memory": Metric("each", "memory per connection", "KiB", scale=1 << 10),
    "stall_ms": Metric("stall", "longest stall", "ms"),
    "lost": Metric("lost", "lost datagrams", ""),
    "unanswered": Metric("starved", "connections never answered", ""),
    "client_cpu_share": Metric("client", "CPU of the client", "%", scale=0.01),
}


def ours(contender: str) -> bool:
    return contender.startswith("aiopoll")


def summed_up(turns: list[dict[str, float]]) -> dict[str, Any]:
    """Median and spread of each metric over the turns of all rounds."""
    names = turns[0].keys()
    values = {name: [one[name] for one in turns if name in one] for name in names}
    return {
        "turns": turns,
        "median": {name: statistics.median(series) for name, series in values.items()},
        "spread": {name: [min(series), max(series)] for name, series in values.items()},
    }


def ratios(contenders: dict[str, Any]) -> dict[str, Any]:
    """Of each of ours to each other: taken within a turn, then the median over the turns."""
    return {
        mine: {
            other: {
                metric: statistics.median(
                    a[metric] / b[metric]
                    for a, b in zip(
                        contenders[mine]["turns"], contenders[other]["turns"], strict=False
                    )
                    if metric in a and b.get(metric)
                )
                for metric in METRICS
                if any(
                    metric in a and b.get(metric)
                    for a, b in zip(
                        contenders[mine]["turns"], contenders[other]["turns"], strict=False
                    )
                )
            }
            for other in contenders
            if other != mine and contenders[other].get("turns")
        }
        for mine in contenders
        if ours(mine) and contenders[mine].get("turns")
    }


def all_aims() -> list[dict[str, Any]]:
    aims: list[dict[str, Any]] = tomllib.loads(
        (ROOT / "benchmarks" / "aims.toml").read_text(encoding="utf-8")
    )["aim"]
    return aims


def aims_of(name: str, result: dict[str, Any]) -> list[dict[str, Any]]:
    """The aims of the workload with the value measured: None where a part of it was not."""
    found = []
    for aim in all_aims():
        if aim["workload"] != name:
            continue
        of, metric, value = aim.get("of", "aiopoll"), aim["metric"], None
        if against := aim.get("against"):
            beside = result["ratios"].get(of, {})
            values = [beside[peer][metric] for peer in against if metric in beside.get(peer, {})]
            if values:
                value = max(values) if "at_most" in aim else min(values)
        elif contender := result["contenders"].get(of):
            value = contender.get("median", {}).get(metric)
        reached = None
        if value is not None:
            reached = value <= aim["at_most"] if "at_most" in aim else value >= aim["at_least"]
        found.append({**aim, "of": of, "value": value, "reached": reached})
    return found


def losses(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Where one of ours is behind a peer in what the workload is about.

    The epoll backend is there to be compared with, and so is aiopoll where threads do its disk
    work; the references have no Python, and what they do is no peer's.
    """
    metric = result["metric"]
    found = []
    for mine in result["ratios"]:
        if mine in ("aiopoll-epoll", "aiopoll-threads"):
            continue
        for other, values in result["ratios"][mine].items():
            ratio = values.get(metric)
            if ours(other) or other in REFERENCES or other == "fio" or ratio is None:
                continue
            if ratio < 1 if METRICS[metric].more_is_better else ratio > 1:
                found.append({"of": mine, "to": other, "ratio": ratio})
    return found


def workload_result(workload: Workload, contenders: dict[str, Any]) -> dict[str, Any]:
    """`contenders`: `summed_up` of each, or a "failure"."""
    result: dict[str, Any] = {
        "title": workload.title,
        "unit": workload.unit,
        "metric": workload.metric,
        "contenders": contenders,
        "ratios": ratios(contenders),
    }
    result["aims"] = aims_of(workload.name, result)
    result["losses"] = losses(result)
    return result


# ---- the run as a whole ----


def _output(*command: str) -> str | None:
    if not shutil.which(command[0]):
        return None
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _file_system(path: Path) -> str:
    """Type of the file system that has the path, as /proc/self/mounts names it."""
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind = line.split()[:3]
        if path.is_relative_to(point) and len(point) > len(best[0]):
            best = (point, kind)
    return best[1]


def _machine() -> dict[str, Any]:
    information = Path("/proc/cpuinfo").read_text()
    models = [line for line in information.splitlines() if line.startswith("model name")]
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gib": round(pages * size / 2**30, 1),
        "kernel": platform.release(),
        "file_system": _file_system(BUILD),
        "load_at_start": os.getloadavg()[0],
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    for program in (("gcc", "-dumpfullversion"), ("fio", "--version")):
        if said := _output(*program):
            versions[program[0]] = said.removeprefix("fio-")
    return versions


def new_run(settings: Settings, rounds: int, turns: int) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "rev-parse", "HEAD"),
        "changed_since_commit": bool(_output("git", "status", "--porcelain", "--", "src")),
        "machine": _machine(),
        "versions": _versions(),
        "settings": {"rounds": rounds, "turns": turns, **asdict(settings)},
        "skipped": {},
        "workloads": {},
    }


def default_path(run: dict[str, Any]) -> Path:
    stamp = run["date"][:19].replace(":", "").replace("T", "-")
    return FOLDER / f"{stamp}-{(run['commit'] or 'unknown')[:7]}.json"


def save(run: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return run


def newest(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """For each workload its newest result, with the run that it is of under "run"."""
    found: dict[str, dict[str, Any]] = {}
    for run in sorted(map(load, paths), key=lambda run: str(run["date"])):
        for name, result in run["workloads"].items():
            found[name] = {**result, "run": {key: run[key] for key in run if key != "workloads"}}
    return found
