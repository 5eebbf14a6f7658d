"""The stubs of the compiled modules match the modules."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.pyx"))
MODULES = [".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in SOURCES]


def test_every_compiled_module_has_a_stub() -> None:
    assert SOURCES
    assert [path for path in SOURCES if not path.with_suffix(".pyi").exists()] == []


@pytest.mark.slow
@pytest.mark.subprocess
def test_stubs_and_modules_agree() -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "mypy.stubtest"),
            # Some entries are of some versions of Python alone.
            *("--allowlist", "tests/meta/stubtest-allowlist.txt", "--ignore-unused-allowlist"),
            *MODULES,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
