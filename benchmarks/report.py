"""python -m benchmarks.report OUT.html RESULTS.json …: an HTML page of plots, one run or several.

Each workload has a bar for each implementation: the median, and a line for its 95 % interval.  The
plots are SVG inside the page, which needs nothing else.
"""

import html
import io
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from benchmarks import results
from benchmarks.record import short
from benchmarks.results import goals_of, median, ours, slower_than_peers
from benchmarks.statistics import METRICS, Estimate

matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text

STYLE = """
body { font: 15px/1.45 sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: .6em 0 }
td, th { padding: .15em .8em .15em 0; text-align: right } td:first-child { text-align: left }
th { border-bottom: 1px solid #999 } .missed { color: #b00 } .reached { color: #070 }
"""
SHADES = ("#4878a8", "#90b4d8", "#30506f", "#b8cfe6")
OUR_SHADES = ("#d9822b", "#efb679", "#9c5a17", "#f5d3ad")


def plot(runs: list[dict[str, Any]], name: str) -> str:
    """The workload's own metric, and CPU for each operation beside it where it has both."""
    found = [run["workloads"][name] for run in runs if name in run["workloads"]]
    metrics = list(dict.fromkeys([found[0]["metric"], "cpu_us"]))
    implementations = list(
        dict.fromkeys(
            implementation
            for result in found
            for implementation, one in result["implementations"].items()
            if "estimates" in one
        )
    )
    height = 0.5 + 0.28 * len(implementations) * len(found)
    figure, axes = plt.subplots(1, len(metrics), figsize=(9, height), sharey=True, squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        described = METRICS[metric]
        for index, result in enumerate(found):
            for row, implementation in enumerate(implementations):
                one = result["implementations"].get(implementation, {}).get("estimates", {})
                if metric not in one:
                    continue
                shades = OUR_SHADES if ours(implementation) else SHADES
                value, low, high = (part / described.scale for part in Estimate(*one[metric]))
                axis.barh(
                    row + (index + 0.5) / len(found) * 0.8 - 0.4,
                    value,
                    height=0.8 / len(found),
                    xerr=[[value - low], [high - value]],
                    color=shades[index % len(shades)],
                    error_kw={"elinewidth": 1, "ecolor": "#333"},
                )
        better = "more is better" if described.more_is_better else "less is better"
        axis.set_xlabel(f"{described.name} {described.unit} ({better})")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_yticks(range(len(implementations)), implementations)
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    plt.close(figure)
    return drawn.getvalue().split("?>", 1)[-1].split('svg11.dtd">', 1)[-1]


def _table(result: dict[str, Any]) -> str:
    shown = [
        metric
        for metric in METRICS
        if any(metric in one.get("estimates", {}) for one in result["implementations"].values())
    ]
    cells = "".join(f"<th>{METRICS[metric].title} {METRICS[metric].unit}</th>" for metric in shown)
    lines = [f"<table><tr><th></th>{cells}</tr>"]
    for implementation, one in result["implementations"].items():
        if "failure" in one:
            lines.append(f"<tr><td>{implementation}</td><td class=missed>failed</td></tr>")
            continue
        cells = "".join(
            f"<td>{METRICS[metric].show(median(result, implementation, metric))}</td>"
            for metric in shown
        )
        lines.append(f"<tr><td>{implementation}</td>{cells}</tr>")
    return "".join([*lines, "</table>"])


def _goals(run: dict[str, Any]) -> str:
    rows = []
    for name, result in run["workloads"].items():
        for goal in goals_of(name, result):
            limit = f"≤ {goal['at_most']}" if "at_most" in goal else f"≥ {goal['at_least']}"
            beside = " and of ".join(goal.get("against", []))
            word = {True: "reached", False: "missed", None: "not measured"}[goal["reached"]]
            value = "" if goal["value"] is None else f"{goal['value']:.2f}"
            rows.append(
                f"<tr><td>{name}: {goal['of']}, {METRICS[goal['metric']].name}"
                f"{' of ' + beside if beside else ''}</td><td>{limit}</td><td>{value}</td>"
                f"<td class={word.split()[-1]}>{word}</td></tr>"
            )
    if not rows:
        return ""
    return f"<table><tr><th></th><th>goal</th><th>now</th><th></th></tr>{''.join(rows)}</table>"


def _slower(run: dict[str, Any]) -> str:
    rows = [
        f"<li>{name}: {one['of']} has {one['ratio']:.2f} of {one['to']}'s"
        f" {METRICS[result['metric']].name}</li>"
        for name, result in run["workloads"].items()
        for one in slower_than_peers(result)
    ]
    return f"<h2>Slower than peers</h2><ul>{''.join(rows)}</ul>" if rows else ""


def _heading(record: dict[str, Any]) -> str:
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    changed = ", with changes" if record["changed_since_commit"] else ""
    settings = record["settings"]
    text = (
        f"{record['date']}, commit {short(record)}{changed}. {machine['cpu']},"
        f" {machine['cpus']} CPUs, {machine['memory_gib']} GiB, Linux {machine['kernel']},"
        f" {machine['file_system']}; load {machine['load_at_start']:.1f} before."
        f" {versions}. {settings['rounds']} rounds"
        f" of {settings['seconds']} s, each of {settings['samples']} samples."
    )
    return f"<p>{html.escape(text)}</p>"


def write(runs: list[dict[str, Any]], path: Path) -> None:
    """The page of these runs; with several, a workload's bars stand side by side."""
    names = list(dict.fromkeys(name for run in runs for name in run["workloads"]))
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>aiopoll, measured</title>",
        f"<style>{STYLE}</style><h1>aiopoll beside its peers</h1>",
        "<p>Medians of the samples; a line is the 95 % interval. CPU, switches and calls are the"
        " server's for each operation.</p>",
    ]
    for run in runs:
        parts += [*map(_heading, run["runs"].values()), _goals(run), _slower(run)]
    for name in names:
        results_of = [run["workloads"][name] for run in runs if name in run["workloads"]]
        parts.append(f"<h2 id={name}>{html.escape(results_of[0]['title'])}</h2>{plot(runs, name)}")
        parts += [_table(result) for result in results_of]
    path.write_text("\n".join([*parts, "</html>"]), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python -m benchmarks.report OUT.html RESULTS.json ...")
    write([results.load(Path(name)) for name in sys.argv[2:]], Path(sys.argv[1]))
