"""docs/explanation/flows.md names the functions that a flow calls, in this order."""

import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.meta.flow_programs import PROGRAMS
from tests.support.breakpoints import TraceRefusedError, calls_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "flows.md"
STEP = re.compile(r"^\d+\. `([\w/]+)\.pyx` `([\w.]+)`: \S.*\.$")
STEPS_MAX = 8
FILES_MAX = 6


class Step(NamedTuple):
    module: str
    function: str


def flows() -> dict[str, list[Step]]:
    """The heading of each flow and its steps."""
    found = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        steps = []
        for line in body.splitlines():
            if re.match(r"\d+\.", line):
                match = STEP.match(line)
                assert match, f"{heading}: not `file` `function`: text. in {line!r}"
                steps.append(Step("aiopoll." + match[1].replace("/", "."), match[2]))
        found[heading] = steps
    return found


FLOWS = flows()


def test_every_flow_has_a_program() -> None:
    assert list(FLOWS) == list(PROGRAMS)


@pytest.mark.parametrize("steps", FLOWS.values(), ids=list(FLOWS))
def test_flow_is_short(steps: list[Step]) -> None:
    assert 2 <= len(steps) <= STEPS_MAX
    assert len({step.module for step in steps}) <= FILES_MAX
    assert len(set(steps)) == len(steps), "a function is named twice"


@pytest.mark.subprocess
@pytest.mark.parametrize("heading", FLOWS)
def test_flow_calls_its_functions_in_this_order(heading: str, tmp_path: Path) -> None:
    steps = FLOWS[heading]
    command = [sys.executable, "-m", "tests.meta.flow_programs", heading]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        calls = calls_of(command, steps, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    except TraceRefusedError:
        pytest.skip(reason="skips.toml: flows under breakpoints")
    first_calls = list(dict.fromkeys(calls))
    assert first_calls == [f"{step.module}:{step.function}" for step in steps]
