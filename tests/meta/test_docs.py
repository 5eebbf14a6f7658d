"""The README and docs/: examples run, links and names are right, pages are current."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
# Names that are not the package's.
OTHERS = {"socket", "asyncio", "operator", "_default_executor", "os", "threading"}
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(code, id=f"{page.relative_to(ROOT)}:{number}")
    for page in PAGES
    for number, code in enumerate(EXAMPLE.findall(page.read_text(encoding="utf-8")), 1)
]


@pytest.mark.subprocess
@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_run_and_print_their_stated_output(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        cwd=tmp_path,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"print\(.*\)  # (?:.*: )?(.+)$", code, re.MULTILINE)
    printed = done.stdout.splitlines()
    assert printed[: len(promised)] == promised


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            goal = page.parent / path if path else page
            assert goal.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(goal), f"{page.name}: {target}"


@pytest.mark.subprocess
@pytest.mark.parametrize("tool", ["write_limitations", "draw_states", "write_dashboard"])
def test_generated_page_is_current(tool: str) -> None:
    command = [sys.executable, str(ROOT / "tools" / f"{tool}.py"), "--check"]
    assert subprocess.run(command, timeout=60).returncode == 0, f"run python tools/{tool}.py"


def test_explanations_name_files_and_functions_that_exist() -> None:
    """`reactor/reactor.pyx` is a file of the package; `Reactor.find` is a name in it."""
    package = ROOT / "src" / "aiopoll"
    sources = [path for path in package.rglob("*") if path.suffix in (".py", ".pyx", ".pxd", ".h")]
    text = "\n".join(path.read_text("utf-8") for path in sources)
    words = set(re.findall(r"\w+", text))
    bodies: dict[str, str] = {}
    for name, body in re.findall(r"^(?:cdef )?class (\w+)(.*(?:\n(?!\S).*)*)", text, re.MULTILINE):
        bodies[name] = bodies.get(name, "") + body
    for name in ("aio-layer", "event-loop", "files", "flows", "performance", "simulation"):
        text = (ROOT / "docs" / "explanation" / f"{name}.md").read_text(encoding="utf-8")
        for token in re.findall(r"`([\w./]+)(?:\(\))?`", text):
            if "/" in token:
                assert (package / token).exists() or (ROOT / token).exists(), f"{name}: {token}"
            elif not OTHERS & set(token.split(".")):
                owner, _, member = token.rpartition(".")
                defined = rf"def\b[^(=\n]*\b{member}\b"
                found = re.search(defined, bodies.get(owner, "")) if owner else member in words
                assert found, f"{name}: {token}"
