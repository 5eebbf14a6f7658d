"""The stubs of the compiled modules say what the modules have."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = ROOT / "src" / "aiopoll" / "_core"
MODULES = sorted(path.stem for path in CORE.glob("*.pyx"))


def test_every_compiled_module_has_a_stub():
    assert MODULES
    assert [name for name in MODULES if not (CORE / f"{name}.pyi").exists()] == []


def test_stubs_and_modules_agree():
    result = subprocess.run(
        [
            *(sys.executable, "-m", "mypy.stubtest"),
            *("--allowlist", "tests/meta/stubtest-allowlist.txt"),
            *(f"aiopoll._core.{name}" for name in MODULES),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
