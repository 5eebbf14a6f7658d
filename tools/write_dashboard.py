"""Writes docs/how-to/grafana-dashboard.json: `python tools/write_dashboard.py`; --check compares.

A panel is one line of ROWS; its place follows from those before it.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "grafana-dashboard.json"

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
HEIGHT = 8
CHOSEN = 'job=~"$job",instance=~"$instance",loop=~"$loop"'
LOOP = "{{instance}} {{loop}}"


class Panel(NamedTuple):
    """One panel: its expressions by their legend."""

    title: str
    unit: str
    expressions: dict[str, str]
    description: str = ""
    type: str = "timeseries"


def now(metric: str, *labels: str) -> str:
    return f"aiopoll_{metric}{{{','.join((CHOSEN, *labels))}}}"


def rate(metric: str, *labels: str) -> str:
    return f"rate({now(metric, *labels)}[$__rate_interval])"


def heatmap(title: str, metric: str, description: str) -> Panel:
    counts = f"sum by (le) (increase({now(metric + '_bucket')}[$__rate_interval]))"
    return Panel(title, "s", {"{{le}}": counts}, description, "heatmap")


def quantiles(title: str, metric: str) -> Panel:
    by_loop = f"sum by (le, instance, loop) ({rate(metric + '_bucket')})"
    return Panel(
        title,
        "s",
        {
            f"{LOOP} p{percent}": f"histogram_quantile({percent / 100}, {by_loop})"
            for percent in (50, 90, 99)
        },
        "An upper bound between two bounds of the histogram.",
    )


BY_LOOP = "sum by (instance, loop)"
IDLE = rate("loop_time_seconds_total", 'state="idle"')
ALL = rate("loop_time_seconds_total")
BY_ROUTE = f"sum by (operation, route) ({rate('file_requests_total')})"
ROWS = {
    "Load": (
        Panel(
            "Utilization",
            "percentunit",
            {LOOP: f"1 - {BY_LOOP} ({IDLE}) / {BY_LOOP} ({ALL})"},
            "The part of the time that a loop did not sleep. Near 1: more processes, or less work.",
        ),
        Panel("Callbacks per second", "cps", {LOOP: rate("callbacks_total")}),
        Panel("Iterations per second", "cps", {LOOP: rate("iterations_total")}),
        Panel(
            "Tasks and what waits",
            "short",
            {
                f"{LOOP} tasks": now("tasks"),
                f"{LOOP} ready": now("callbacks_ready"),
                f"{LOOP} timers": now("timers"),
            },
        ),
    ),
    "Delay": (
        heatmap(
            "How long callbacks waited",
            "lag_seconds",
            "From the kernel's report, a timer's deadline or call_soon() until they ran.",
        ),
        quantiles("Quantiles of the delay", "lag_seconds"),
    ),
    "Callbacks": (
        heatmap(
            "How long callbacks ran",
            "callback_duration_seconds",
            "What is above 50 ms makes all others wait: look for what blocks the loop.",
        ),
        quantiles("Quantiles of the duration", "callback_duration_seconds"),
    ),
    "Connections": (
        Panel("Connections", "short", {LOOP: now("connections")}),
        Panel("Connections made per second", "cps", {LOOP: rate("connections_made_total")}),
        Panel(
            "Bytes per second",
            "Bps",
            {
                f"{LOOP} received": rate("received_bytes_total"),
                f"{LOOP} sent": rate("sent_bytes_total"),
            },
        ),
    ),
    "Ring": (
        Panel(
            "Slots and requests",
            "short",
            {f"{LOOP} slots": now("slots"), f"{LOOP} in flight": now("requests_in_flight")},
            "Requests in flight near the slots: a larger nr_events.",
        ),
        Panel(
            "Files that found no slot, per second",
            "cps",
            {LOOP: rate("overflowed_files_total")},
            "They are served by epoll. More all the time: a larger nr_events or fs.aio-max-nr.",
        ),
        Panel(
            "Reaps without a system call, per second",
            "cps",
            {LOOP: rate("ring_reaps_total")},
        ),
        Panel(
            "System calls of AIO per second",
            "cps",
            {f"{LOOP} {{{{call}}}}": rate("system_calls_total")},
        ),
    ),
    "Files": (
        Panel(
            "Requests of files per second, by route",
            "cps",
            {"{{operation}} by {{route}}": BY_ROUTE},
        ),
        Panel(
            "Requests of files now",
            "short",
            {
                f"{LOOP} in the kernel": now("file_requests_in_flight"),
                f"{LOOP} waiting": now("file_requests_waiting"),
                f"{LOOP} in threads": now("file_requests_in_threads"),
            },
        ),
    ),
    "Thread pool and stalls": (
        Panel(
            "Threads",
            "short",
            {
                f"{LOOP} busy": f"{now('thread_pool_threads')} - {now('thread_pool_idle')}",
                f"{LOOP} limit": now("thread_pool_limit"),
                f"{LOOP} queued": now("thread_pool_queued"),
            },
            "Calls that are queued for long: an executor with more threads.",
        ),
        Panel("Stalls per second", "cps", {LOOP: rate("stalls_total")}),
        Panel(
            "Time in stalls",
            "percentunit",
            {LOOP: rate("stalled_seconds_total")},
            "0 while the loop does not watch for stalls.",
        ),
    ),
}


def variable(name: str, expression: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": expression, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def panel(number: int, made: Panel, place: dict[str, int]) -> dict[str, Any]:
    is_heatmap = made.type == "heatmap"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "expr": expression,
            "legendFormat": legend,
            "format": "heatmap" if is_heatmap else "time_series",
        }
        for index, (legend, expression) in enumerate(made.expressions.items())
    ]
    return {
        "id": number,
        "type": made.type,
        "title": made.title,
        "description": made.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {} if is_heatmap else {"unit": made.unit, "min": 0},
            "overrides": [],
        },
        "options": (
            {
                "calculate": False,
                "cellGap": 1,
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
                "yAxis": {"unit": made.unit},
                "tooltip": {"mode": "single"},
            }
            if is_heatmap
            else {
                "legend": {"displayMode": "list", "placement": "bottom"},
                "tooltip": {"mode": "multi"},
            }
        ),
        "targets": targets,
    }


def panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        width = COLUMNS // len(row)
        for index, one in enumerate(row):
            place = {"h": HEIGHT, "w": width, "x": index * width, "y": y + 1}
            made.append(panel(len(made) + 1, one, place))
        y += 1 + HEIGHT
    return made


def dashboard() -> dict[str, Any]:
    return {
        "title": "aiopoll: event loops",
        "uid": "aiopoll-loops",
        "description": "Event loops of aiopoll, by aiopoll.prometheus or aiopoll run --metrics.",
        "tags": ["aiopoll", "asyncio", "python"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {},
                },
                variable("job", "label_values(aiopoll_loop_info, job)"),
                variable("instance", 'label_values(aiopoll_loop_info{job=~"$job"}, instance)'),
                variable(
                    "loop",
                    'label_values(aiopoll_loop_info{job=~"$job",instance=~"$instance"}, loop)',
                ),
            ]
        },
        "panels": panels(),
    }


def main() -> int:
    text = json.dumps(dashboard(), indent=2) + "\n"
    if "--check" in sys.argv[1:]:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
