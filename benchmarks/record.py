"""The metadata of a run beside its figures: time, commit, machine and versions."""

import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measure import Settings
from benchmarks.native import BUILD
from benchmarks.workload import ROOT

PACKAGES = (
    *("uvloop", "rloop", "uvicorn", "httptools", "aiohttp"),
    *("caio", "aiofiles", "anyio", "Cython"),
)


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


def new_record(settings: Settings, rounds: int, samples: int) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "rev-parse", "HEAD"),
        "changed_since_commit": bool(_output("git", "status", "--porcelain", "--", "src")),
        "machine": _machine(),
        "versions": _versions(),
        "settings": {"rounds": rounds, "samples": samples, **asdict(settings)},
        "skipped": {},
    }


def name_of(record: dict[str, Any]) -> str:
    """The name of a run in a workload's result: date and commit."""
    changed = " with changes" if record["changed_since_commit"] else ""
    return f"{record['date']} {short(record)}{changed}"


def short(record: dict[str, Any]) -> str:
    return (record["commit"] or "unknown")[:7]
