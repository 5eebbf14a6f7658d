"""Each number that a loop shows is in docs/reference/metrics.md: what it counts, when to worry."""

import re
from pathlib import Path

import pytest

from aiopoll import LoopMetrics, ReactorStatistics, Timings

PAGE = (Path(__file__).parents[2] / "docs/reference/metrics.md").read_text("utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in PAGE.splitlines()
    if line.startswith("| `")
]
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
