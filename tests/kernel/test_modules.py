"""The package can be read beside Linux: each module's Linux file, and the page's references."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "aiopoll" / "kernel"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
SOURCE = {
    path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in MODULES
}
PAGE = (ROOT / "docs" / "explanation" / "poll-api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SOURCE)
def test_module_opens_with_its_linux_file_and_omissions(name):
    opening = ast.get_docstring(ast.parse(SOURCE[name]))
    first = opening.splitlines()[0]
    assert re.search(r"\w+/[\w{]|No Linux file", first), first
    assert "Left out: " in opening


def test_page_names_only_existing_parts():
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    for name in re.findall(r"`([\w/]+\.py)`", prose):
        assert name in SOURCE or (ROOT / name).exists(), name
    for path in re.findall(r"`([\w./-]+/[\w.-]*)`", prose):
        assert (ROOT / path).exists() or path in SOURCE, path
    everything = "".join(SOURCE.values())
    for words in re.findall(r"`([^`\n/]+)`", prose):
        if words.endswith((".py", ".toml")):
            continue
        for word in re.findall(r"[A-Za-z_]\w\w+", words.removeprefix("aiopoll.")):
            assert re.search(rf"\b{word}\b", everything), words


def test_page_names_a_function_beside_its_own_file():
    """`file.py`, `name`: the name is defined in that file, or is a method there."""
    pairs = re.findall(r"`([\w/]+\.py)`, `([\w.]+)`", PAGE)
    assert len(pairs) >= 15
    for name, dotted in pairs:
        for word in dotted.split("."):
            assert re.search(rf"(def|class) {word}\b", SOURCE[name]), (name, word)
