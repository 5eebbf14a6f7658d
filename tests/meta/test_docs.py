"""Every Python example of the README and of docs/ runs, and the README lists the known gaps."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(code, id=f"{page.relative_to(ROOT)}:{number}")
    for page in PAGES
    for number, code in enumerate(EXAMPLE.findall(page.read_text(encoding="utf-8")), 1)
]


@pytest.mark.subprocess
@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_run_and_print_what_they_say(code: str, tmp_path: Path) -> None:
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


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.subprocess
def test_the_readme_lists_the_known_gaps() -> None:
    command = [sys.executable, str(ROOT / "tools" / "readme_gaps.py"), "--check"]
    done = subprocess.run(command, timeout=60)
    assert done.returncode == 0, "run python tools/readme_gaps.py"
