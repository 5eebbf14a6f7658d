"""Each number that a loop shows is in docs/reference/metrics.md: what it counts, when to worry."""

import re
from pathlib import Path
from typing import Any

import pytest

from aiopoll import FileStatistics, LoopMetrics, ReactorStatistics, ThreadPoolMetrics, Timings
from aiopoll.loop.monitor.exported import NUMBERS

PAGE = (Path(__file__).parents[2] / "docs/reference/metrics.md").read_text("utf-8")
FIELDS, _, EXPORTED = PAGE.partition("## Names in Prometheus")


def rows_of(text: str) -> list[tuple[str, ...]]:
    """The cells of each row of the tables, but for their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    return [tuple(cell.strip() for cell in line[1:-1].split("|")) for line in lines]


ROWS = rows_of(FIELDS)
NAMES = [name for row in ROWS for name in re.findall(r"`([\w.]+)`", row[0])]


@pytest.mark.parametrize(
    "field",
    [
        *(f"timings.{name}" for name in Timings._fields),
        *(name for name in LoopMetrics._fields if name != "timings"),
        *ReactorStatistics._fields,
    ],
)
def test_each_field_has_a_row(field: str) -> None:
    assert field in NAMES


def test_no_row_is_of_a_field_that_is_gone() -> None:
    fields = {*LoopMetrics._fields, *ReactorStatistics._fields}
    fields |= {f"timings.{name}" for name in Timings._fields}
    assert set(NAMES) == fields - {"timings"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_is_to_worry_about_has_a_remedy(row: tuple[str, ...]) -> None:
    name, counts, worry, then = row
    assert counts, name
    assert not worry or then, name


def test_exported_names_are_those_of_the_page() -> None:
    prometheus: Any = pytest.importorskip("aiopoll.prometheus", reason="skips.toml: exporters")
    otel: Any = pytest.importorskip("aiopoll.otel", reason="skips.toml: exporters")
    exported = {
        (prometheus.metric_name(n), otel.metric_name(n), n.attributes, tuple(n.fields.values()))
        for n in NUMBERS
    }
    for field, (name, _) in prometheus.HISTOGRAMS.items():
        exported.add((name, "", (), (f"timings.{field}",)))
    info = ("version", "backend", "user_ring"), ("reactor.backend", "reactor.user_ring")
    exported.add(("aiopoll_loop_info", "", *info))
    for gauge in otel.GAUGES:
        field = {"delay": "lag", "duration": "callback"}.get(
            gauge.name.split(".")[2], "utilization"
        )
        exported.add(("", gauge.name, (), (f"timings.{field}",)))
    found = {
        (
            *(cell.strip("`") for cell in row[:2]),
            *(tuple(re.findall("`(.+?)`", c)) for c in row[2:]),
        )
        for row in rows_of(EXPORTED)
    }
    assert found == exported


def test_each_number_of_a_loop_is_exported() -> None:
    exported = {field for number in NUMBERS for field in number.fields.values()}
    exported |= {"timings.lag", "timings.callback", "reactor.backend", "reactor.user_ring"}
    parts: dict[str, Any] = {
        "timings": Timings,
        "thread_pool": ThreadPoolMetrics,
        "reactor": ReactorStatistics,
        "files": FileStatistics,
    }
    fields = {name for name in LoopMetrics._fields if name not in parts}
    fields |= {f"{part}.{name}" for part, kind in parts.items() for name in kind._fields}
    fields.discard("reactor.iterations")  # it is `iterations`
    assert exported == fields | {"timings.callbacks_seconds"}
