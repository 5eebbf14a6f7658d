"""The run on a terminal: its progress, a table of each workload, and the goals reached."""

from pathlib import Path
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.results import goal_text, goals_of, median, ours, ratio, slower_than_peers
from benchmarks.statistics import METRICS, Estimate

WIDTH_MIN = 120


class Screen:
    def __init__(self, record: dict[str, Any], steps: int) -> None:
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
        self._task = self._progress.add_task("", total=steps)
        self._started = False
        machine = record["machine"]
        self.console.print(
            f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']},"
            f" Python {record['versions']['python']}, {machine['file_system']}"
        )
        if machine["load_at_start"] > 0.5:
            self.console.print(
                f"[yellow]The machine is busy (load {machine['load_at_start']:.1f}):"
                " what is measured now means little."
            )
        for name, reason in record["skipped"].items():
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

    def doing(self, workload: str, implementation: str, what: str) -> None:
        if self._started:
            self._progress.advance(self._task)
        self._started = True
        self._progress.update(self._task, description=f"{workload} {implementation} {what}")

    def stop(self) -> None:
        """Ends the progress bar."""
        self._progress.update(self._task, completed=self._progress.tasks[0].total)
        self._progress.stop()

    def show(self, name: str, result: dict[str, Any]) -> None:
        implementations, metric = result["implementations"], result["metric"]
        shown = [
            metric
            for metric in METRICS
            if any(metric in one.get("estimates", {}) for one in implementations.values())
        ]
        mine = next(iter(result["ratios"]), None)
        table = new_table(f"{name}: {result['title']}  (per {result['unit']})")
        table.add_column("", no_wrap=True)
        for column in shown:
            unit = METRICS[column].unit
            table.add_column(f"{METRICS[column].title} {unit}".strip(), justify="right")
        table.add_column("95 %", justify="right")
        if mine:
            table.add_column(f"{mine} to it", justify="right")
        for implementation, one in implementations.items():
            style = "bold" if ours(implementation) else ""
            if "failure" in one:
                table.add_row(implementation, "[red]failed[/]", style=style)
                continue
            cells = [METRICS[one].show(median(result, implementation, one)) for one in shown]
            middle, low, high = Estimate(*one["estimates"][metric])
            middle = middle or 1
            cells.append(f"{(low / middle - 1) * 100:+.0f} {(high / middle - 1) * 100:+.0f} %")
            if mine:
                value = ratio(result, mine, implementation, metric)
                cells.append("" if value is None else f"{value:.2f}")
            table.add_row(implementation, *cells, style=style)
        self.console.print(table)
        for line in goal_lines(name, result):
            self.console.print(line)

    def sum_up(self, run: dict[str, Any], paths: list[Path]) -> None:
        self.stop()
        results = run["workloads"].items()
        goals = [goal for name, result in results for goal in goals_of(name, result)]
        reached = sum(goal["reached"] is True for goal in goals)
        measured = sum(goal["reached"] is not None for goal in goals)
        self.console.print(f"\n{reached} of {measured} goals reached")
        slower = [
            f"  {name}: {one['of']} {one['ratio']:.2f} of {one['to']}"
            f" ({METRICS[result['metric']].name})"
            for name, result in results
            for one in slower_than_peers(result)
        ]
        self.console.print("slower than a peer:" if slower else "slower than no peer")
        for line in slower:
            self.console.print(f"[red]{line}")
        for path in paths:
            self.console.print(f"results: {path}")


def new_table(title: str) -> Table:
    return Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)


def goal_lines(name: str, result: dict[str, Any]) -> list[str]:
    lines = []
    for goal in goals_of(name, result):
        if goal["value"] is None:
            lines.append(f"  goal {goal_text(goal)}: not measured")
            continue
        colour, word = ("green", "reached") if goal["reached"] else ("red", "missed")
        lines.append(f"  goal {goal_text(goal)}: [{colour}]{goal['value']:.2f}, {word}[/]")
    return lines
