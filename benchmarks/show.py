"""The run on a terminal: its progress, a table of each workload, and what is won and lost."""

from pathlib import Path
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.results import METRICS, ours
from benchmarks.workload import Workload

WIDTH_MIN = 120


class Screen:
    def __init__(self, run: dict[str, Any], turns: int) -> None:
        self.console = Console(highlight=False)
        if self.console.width < WIDTH_MIN:
            self.console = Console(highlight=False, width=WIDTH_MIN)  # the table in one piece
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self.console,
        )
        self._task = self._progress.add_task("", total=turns)
        self._started = False
        machine = run["machine"]
        self.console.print(
            f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']},"
            f" Python {run['versions']['python']}, {machine['file_system']}"
        )
        if machine["load_at_start"] > 0.5:
            self.console.print(
                f"[yellow]The machine is busy (load {machine['load_at_start']:.1f}):"
                " what is measured now means little."
            )
        for name, reason in run["skipped"].items():
            self.console.print(f"without {name}: {reason}")

    def __enter__(self) -> "Screen":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def doing(self, workload: Workload, contender: str, what: str) -> None:
        if self._started:
            self._progress.advance(self._task)
        self._started = True
        self._progress.update(self._task, description=f"{workload.name} {contender} {what}")

    def show(self, name: str, result: dict[str, Any]) -> None:
        contenders = result["contenders"]
        shown = [
            metric
            for metric in METRICS
            if any(metric in one.get("median", {}) for one in contenders.values())
        ]
        mine = next(iter(result["ratios"]), None)
        title = f"{name}: {result['title']}  (per {result['unit']})"
        table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("", no_wrap=True)
        for metric in shown:
            unit = METRICS[metric].unit
            table.add_column(f"{METRICS[metric].title} {unit}".strip(), justify="right")
        table.add_column("spread", justify="right")
        if mine:
            table.add_column(f"{mine} to it", justify="right")
        for contender, one in contenders.items():
            style = "bold" if ours(contender) else ""
            if "failure" in one:
                table.add_row(contender, "[red]failed[/]", style=style)
                continue
            cells = [METRICS[metric].show(one["median"].get(metric)) for metric in shown]
            low, high = one["spread"][result["metric"]]
            middle = one["median"][result["metric"]] or 1
            cells.append(f"{(low / middle - 1) * 100:+.0f} {(high / middle - 1) * 100:+.0f} %")
            if mine:
                ratio = result["ratios"][mine].get(contender, {}).get(result["metric"])
                cells.append("" if ratio is None else f"{ratio:.2f}")
            table.add_row(contender, *cells, style=style)
        self.console.print(table)
        for line in aim_lines(result):
            self.console.print(line)

    def sum_up(self, run: dict[str, Any], path: Path | None) -> None:
        self._progress.update(self._task, completed=self._progress.tasks[0].total)
        self._progress.stop()
        aims = [aim for result in run["workloads"].values() for aim in result["aims"]]
        reached = sum(aim["reached"] is True for aim in aims)
        measured = sum(aim["reached"] is not None for aim in aims)
        self.console.print(f"\n{reached} of {measured} aims reached")
        losing = [
            f"  {name}: {loss['of']} {loss['ratio']:.2f} of {loss['to']}"
            f" ({METRICS[result['metric']].name})"
            for name, result in run["workloads"].items()
            for loss in result["losses"]
        ]
        self.console.print("behind a peer:" if losing else "behind no peer")
        for line in losing:
            self.console.print(f"[red]{line}")
        if path:
            self.console.print(f"results: {path}")


def aim_lines(result: dict[str, Any]) -> list[str]:
    lines = []
    for aim in result["aims"]:
        limit = f"≤ {aim['at_most']}" if "at_most" in aim else f"≥ {aim['at_least']}"
        peers = aim.get("against", [])
        beside = f" of {' and of '.join(peers)}" if peers else ""
        what = f"{aim['of']}: {METRICS[aim['metric']].name} {limit}{beside}"
        if aim["value"] is None:
            lines.append(f"  aim {what}: not measured")
            continue
        colour, word = ("green", "reached") if aim["reached"] else ("red", "missed")
        lines.append(f"  aim {what}: [{colour}]{aim['value']:.2f}, {word}[/]")
    return lines
