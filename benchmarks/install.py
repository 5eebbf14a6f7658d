"""python -m benchmarks.install: the dependency group bench, one by one.

A package that does not install on this Python is named and left out; a run does without it.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for requirement in tomllib.loads(text)["dependency-groups"]["bench"]:
        command = [sys.executable, "-m", "pip", "install", "--quiet", requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
            print(f"without {requirement}: {reason}")


if __name__ == "__main__":
    main()
