"""aiopoll bench --compare REV: this checkout's package and a commit's, measured in pairs.

Both run this checkout's programs, so that only the package differs.  Each round starts processes of
both sides and measures them alternately; the next round begins with the other side.  The medians of
a round's samples are one pair.  The interval is computed from rounds, not samples.  Samples of one
process share properties that the next process has not: memory layout, hash seeds.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import revision
from benchmarks.measure import Round, Running, Settings, environment
from benchmarks.record import new_record
from benchmarks.results import NOT_JUDGED, ours
from benchmarks.revision import CannotCompare
from benchmarks.show import Screen, new_table
from benchmarks.statistics import (
    COUNT_MIN,
    METRICS,
    Estimate,
    estimate,
    paired_ratios,
    show_interval,
)
from benchmarks.workload import ROOT, Workload

Samples = list[dict[str, float]]
JUDGED = ("rate", "cpu_us")  # and the workload's own metric


@dataclass(frozen=True)
class Side:
    name: str
    description: str
    source: Path


@dataclass(frozen=True)
class Sides:
    before: Side  # REV
    after: Side  # the checkout

    def both(self) -> tuple[Side, Side]:
        return self.before, self.after


def sides_of(name: str, checkout: Path) -> Sides:
    """Both sides, built.  Raises CannotCompare."""
    found = []
    for one in (revision.of_commit(name, checkout), revision.of_checkout(checkout)):
        found.append(Side(one.name, one.description, revision.built(one, checkout)))
    sides = Sides(*found)
    for side in sides.both():
        _require_import(side)
    return sides


def _child(source: Path, code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment(source)
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it does not say why"])[-1]


def _require_import(side: Side) -> None:
    """Raises CannotCompare unless a program of this side imports the package of this side."""
    done = _child(side.source, "import aiopoll; print(aiopoll.__file__)")
    if done.returncode != 0:
        raise CannotCompare(f"{side.description} cannot be imported: {_last_line(done.stderr)}")
    if not Path(done.stdout.strip()).is_relative_to(side.source):
        raise CannotCompare(
            f"{side.description}: Python takes aiopoll from {done.stdout.strip()} instead"
        )


def missing(side: Side, implementation: str) -> str | None:
    """Why this side's package cannot run the implementation; None if it can."""
    code = (
        "import sys; from benchmarks.implementations import missing;"
        " print(missing(sys.argv[1]) or '')"
    )
    done = _child(side.source, code, implementation)
    return (done.stdout.strip() or None) if done.returncode == 0 else _last_line(done.stderr)


def compared(
    rounds: int,
    samples: int,
    alone: bool,
    start: Callable[[str], Running],
    doing: Callable[[str, int], None] = lambda side, index: None,
) -> tuple[list[tuple[dict[str, float], dict[str, float]]], dict[str, str]]:
    """A pair for each round, "before" and "after"; and the failures, which end it."""
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    failures: dict[str, str] = {}
    for index in range(rounds):
        measured: dict[str, Samples] = {"before": [], "after": []}
        with contextlib.closing(Round(alone, start, failures)) as this:
            for sample in range(samples):
                order = ["before", "after"]
                for side in order if (index + sample) % 2 == 0 else order[::-1]:
                    doing(side, index)
                    if one := this.ask(side, lambda running: running.measure()):
                        measured[side].append(one)
        if failures:
            break
        pairs.append((_medians(measured["before"]), _medians(measured["after"])))
    return pairs, failures


def _medians(samples: Samples) -> dict[str, float]:
    names = [name for name in METRICS if all(name in one for one in samples)]
    return {name: statistics.median(one[name] for one in samples) for name in names}


def judged(
    pairs: Sequence[tuple[dict[str, float], dict[str, float]]], about: str, limit: float
) -> dict[str, Any]:
    """The ratios of after to before, and which of them are slower by more than the limit."""
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratios: dict[str, Estimate] = {}
    slower = []
    for metric in dict.fromkeys((about, *JUDGED)):
        values = paired_ratios(after, before, metric)
        if not values:
            continue
        ratios[metric] = estimate(values)
        if len(values) >= COUNT_MIN and METRICS[metric].surely_worse(ratios[metric], limit):
            slower.append(metric)
    return {"ratios": ratios, "slower": slower}


class Comparison:
    """The whole comparison: each workload is measured, shown and kept in order."""

    def __init__(
        self, arguments: argparse.Namespace, sides: Sides, settings: Settings, screen: Screen
    ) -> None:
        self._arguments, self._sides, self._settings = arguments, sides, settings
        self._screen = screen
        self.workloads: dict[str, dict[str, Any]] = {}

    def measure(self, workload: Workload, implementation: str) -> dict[str, Any]:
        """{"pairs", "ratios", "slower"}, or {"not_in_before"} or {"failure"} with a reason."""
        before, after = self._sides.both()
        if reason := missing(before, implementation):
            return {"not_in_before": reason}
        arguments, size = self._arguments, self._settings
        samples = 1 if workload.alone else arguments.samples
        size = replace(size, seconds=size.seconds / samples)
        if arguments.small:
            workload = workload.small()
            size = replace(size, operations=workload.small_operations)
        named = {"before": before, "after": after}

        def start(side: str) -> Running:
            return Running(workload, implementation, size, named[side].source)

        def doing(side: str, index: int) -> None:
            what = f"{named[side].name}, round {index + 1}"
            self._screen.doing(workload.name, implementation, what)

        pairs, failures = compared(arguments.rounds, samples, workload.alone, start, doing)
        if "after" in failures:
            return {"failure": failures["after"]}
        if "before" in failures:
            kind = "failure_in_before" if pairs else "not_in_before"
            return {kind: failures["before"]}
        return {"pairs": pairs, **judged(pairs, workload.metric, arguments.limit)}

    def add(self, workload: Workload, implementations: Sequence[str]) -> None:
        self.workloads[workload.name] = {"title": workload.title, "implementations": {}}
        for name in implementations:
            found = self.measure(workload, name)
            self.workloads[workload.name]["implementations"][name] = found
        self._show(workload.name)

    def _show(self, name: str) -> None:
        before, after = self._sides.both()
        workload = self.workloads[name]
        table = new_table(f"{name}: {workload['title']}")
        for title in ("", "", before.name, after.name, "ratio", "95 %", ""):
            table.add_column(title, justify="left" if not title else "right", no_wrap=True)
        for implementation, one in workload["implementations"].items():
            if "ratios" not in one:
                kind = next(iter(one))
                what = {
                    "not_in_before": f"not in {before.name}",
                    "failure_in_before": f"failed in {before.name}",
                    "failure": "[red]failed[/]",
                }[kind]
                table.add_row(implementation, what)
                continue
            for metric, ratio in one["ratios"].items():
                described = METRICS[metric]
                shown = [
                    described.show(_medians([pair[side] for pair in one["pairs"]]).get(metric))
                    for side in (0, 1)
                ]
                mark = "[red]slower[/]" if metric in one["slower"] else ""
                title = f"{described.title} {described.unit}"
                table.add_row(
                    implementation, title, *shown, f"{ratio.median:.3f}", show_interval(ratio), mark
                )
                implementation = ""
        self._screen.console.print(table)
        for implementation, one in workload["implementations"].items():
            for kind in ("not_in_before", "failure_in_before", "failure"):
                if kind in one:
                    self._screen.console.print(f"  {implementation}: {_last_line(one[kind])}")

    def found(self, kind: str) -> list[tuple[str, str, Any]]:
        """Workload, implementation and its entry of that kind, wherever there is one."""
        return [
            (name, implementation, one[kind])
            for name, workload in self.workloads.items()
            for implementation, one in workload["implementations"].items()
            if one.get(kind)
        ]

    def sum_up(self) -> int:
        """Prints the slower metrics; returns the exit status."""
        before, limit, say = self._sides.before, self._arguments.limit, self._screen.console.print
        slower, failed = self.found("slower"), self.found("failure")
        failed += self.found("failure_in_before")
        if slower:
            say(f"\nslower than {before.name}, by the whole interval beyond {limit}:")
            for name, implementation, metrics in slower:
                titles = ", ".join(METRICS[metric].name for metric in metrics)
                say(f"[red]  {name}: {implementation}: {titles}")
        for name, implementation, reason in failed:
            say(f"[red]failed: {name}: {implementation}: {_last_line(reason)}")
        if not self.found("ratios"):
            print("nothing could be compared", file=sys.stderr)
            return 2
        if self._arguments.rounds < COUNT_MIN:
            say(f"\nnothing is judged: fewer than {COUNT_MIN} rounds have no interval of 95 %")
        elif not slower:
            say(f"\nnothing is slower than {before.name}: no interval lies beyond {limit}")
        return int(bool(slower or failed))


def run(
    arguments: argparse.Namespace,
    workloads: list[Workload],
    settings: Settings,
    checkout: Path = ROOT,
) -> int:
    """Runs `aiopoll bench --compare REV`; returns the exit status."""
    if not any(asked(workload, arguments.implementations) for workload in workloads):
        print("none of these workloads is about an implementation of aiopoll's", file=sys.stderr)
        return 2
    try:
        sides = sides_of(arguments.compare, checkout)
    except CannotCompare as error:
        print(f"aiopoll bench: {error}", file=sys.stderr)
        return 2
    record = new_record(settings, arguments.rounds, arguments.samples)
    plan = plan_of(workloads, arguments.implementations, sides.after, record["skipped"])
    if not plan:
        for name, reason in record["skipped"].items():
            print(f"without {name}: {reason}", file=sys.stderr)
        print("none of these workloads can be run here", file=sys.stderr)
        return 2
    steps = sum(
        2 * arguments.rounds * (1 if workload.alone else arguments.samples) * len(names)
        for workload, names in plan
    )
    with Screen(record, steps) as screen:
        screen.console.print(
            f"{sides.after.description}, beside {sides.before.description}:"
            f" {arguments.rounds} pairs; a ratio is of the former to the latter"
        )
        if sides.before.source == sides.after.source:
            screen.console.print("[yellow]Both have the same sources: what differs is noise.")
        comparison = Comparison(arguments, sides, settings, screen)
        for workload, names in plan:
            comparison.add(workload, names)
            if arguments.output:
                _save(arguments, record, sides, comparison)
        screen.stop()
        status = comparison.sum_up()
        if arguments.output:
            screen.console.print(f"results: {arguments.output}")
    return status


def asked(workload: Workload, wanted: list[str] | None) -> list[str]:
    """The implementations of ours to compare on the workload."""
    mine = [name for name in workload.implementations if ours(name)]
    return [name for name in mine if (name in wanted if wanted else name not in NOT_JUDGED)]


def plan_of(
    workloads: list[Workload], wanted: list[str] | None, after: Side, skipped: dict[str, str]
) -> list[tuple[Workload, list[str]]]:
    """Each workload with our implementations that the checkout can run; `skipped` gets reasons."""
    plan = []
    reasons: dict[str, str | None] = {}
    for workload in workloads:
        able = []
        for name in asked(workload, wanted):
            if name not in reasons:
                reasons[name] = missing(after, name)
            if reason := reasons[name]:
                skipped[name] = reason
            elif reason := workload.missing(name):
                skipped[workload.name] = reason
            else:
                able.append(name)
        if able:
            plan.append((workload, able))
    return plan


def _save(
    arguments: argparse.Namespace, record: dict[str, Any], sides: Sides, comparison: Comparison
) -> None:
    kept = {
        **record,
        "before": sides.before.description,
        "after": sides.after.description,
        "limit": arguments.limit,
        "workloads": comparison.workloads,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
