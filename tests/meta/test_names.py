"""Names of tests are short enough to be read at a glance in a list of failures."""

import ast
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
LENGTH_MAX = 55


def test_no_test_has_a_name_of_more_than_55_characters() -> None:
    long = [
        f"{path.relative_to(TESTS)}:{node.lineno}: {node.name} has {len(node.name)} characters"
        for path in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test")
        and len(node.name) > LENGTH_MAX
    ]
    assert not long, "say test_subject_condition_result in fewer:\n" + "\n".join(long)
