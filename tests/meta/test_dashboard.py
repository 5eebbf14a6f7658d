"""docs/how-to/grafana-dashboard.json has Grafana's form, and asks for metrics that there are."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from aiopoll.loop.monitor.exported import NUMBERS

prometheus = pytest.importorskip("aiopoll.prometheus", reason="skips.toml: exporters")

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "docs/how-to/grafana-dashboard.json").read_text("utf-8")
)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
DRAWN = [panel for panel in PANELS if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in DRAWN for target in panel["targets"]]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


def labels_of_metrics() -> dict[str, set[str]]:
    """The labels of each series that the exporter has, without the target's."""
    found = {"aiopoll_loop_info": {"loop", "version", "backend", "user_ring"}}
    for number in NUMBERS:
        found[prometheus.metric_name(number)] = {"loop", *number.attributes}
    for name, _ in prometheus.HISTOGRAMS.values():
        found |= {f"{name}_bucket": {"loop", "le"}}
        found |= {f"{name}{end}": {"loop"} for end in ("_sum", "_count")}
    return found


METRICS = labels_of_metrics()
TARGET_LABELS = {"job", "instance"}


@pytest.mark.parametrize(
    ("panel", "target"), TARGETS, ids=[f"{p['title']}-{t['refId']}" for p, t in TARGETS]
)
def test_expressions_name_what_is_exported(panel: dict[str, Any], target: dict[str, Any]) -> None:
    expression = target["expr"]
    selected = re.findall(r"\b(aiopoll_\w+)(?:\{(.*?)\})?", expression)
    assert selected
    for metric, labels in selected:
        assert metric in METRICS
        known = METRICS[metric] | TARGET_LABELS
        assert set(re.findall(r"(\w+)=", labels)) <= known, expression
        counts = re.search(r"_(total|bucket|sum|count)$", metric)
        taken = re.search(rf"(rate|increase)\({metric}\{{[^}}]*\}}\[", expression)
        assert bool(counts) == bool(taken), "counters by their rate, and no others"
    known = set.union(*(METRICS[metric] for metric, _ in selected)) | TARGET_LABELS
    for by in re.findall(r"by \((.*?)\)", expression):
        assert set(by.split(", ")) <= known
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= known


def test_expressions_use_each_variable_there_is() -> None:
    expressions = " ".join(target["expr"] for _, target in TARGETS)
    assert set(re.findall(r'"\$(\w+)"', expressions)) == VARIABLES.keys() - {"datasource"}
    for name in VARIABLES.keys() - {"datasource"}:
        query = VARIABLES[name]["query"]["query"]
        metric, label = re.fullmatch(r"label_values\((\w+).*, (\w+)\)", query).groups()  # type: ignore[union-attr]
        assert metric in METRICS
        assert label == name


def test_each_panel_has_the_fields_of_grafana() -> None:
    assert DASHBOARD["title"]
    assert re.fullmatch(r"[\w-]{1,40}", DASHBOARD["uid"])
    assert isinstance(DASHBOARD["schemaVersion"], int)
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["title"]
        assert {"id", "type", "gridPos"} <= panel.keys()
        assert panel["gridPos"].keys() == {"h", "w", "x", "y"}
    for panel in DRAWN:
        assert panel["type"] in ("timeseries", "heatmap")
        assert panel["fieldConfig"].keys() == {"defaults", "overrides"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0


def test_all_is_asked_of_the_chosen_source() -> None:
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["query"] == "prometheus"
    asked = [*DRAWN, *(target for _, target in TARGETS)]
    asked += [variable for name, variable in VARIABLES.items() if name != "datasource"]
    for one in asked:
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_no_panel_is_on_another() -> None:
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        assert place["w"] > 0
        assert place["h"] > 0
    for one, other in itertools.combinations([panel["gridPos"] for panel in PANELS], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


@pytest.mark.parametrize(
    "metric",
    [
        "aiopoll_loop_time_seconds_total",
        "aiopoll_lag_seconds_bucket",
        "aiopoll_callback_duration_seconds_bucket",
        "aiopoll_overflowed_files_total",
        "aiopoll_system_calls_total",
        "aiopoll_file_requests_total",
        "aiopoll_thread_pool_queued",
        "aiopoll_stalls_total",
    ],
)
def test_what_matters_has_a_panel(metric: str) -> None:
    assert [panel for panel, target in TARGETS if metric in target["expr"]]
