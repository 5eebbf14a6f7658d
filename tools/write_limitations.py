"""Writes docs/limitations.md from docs/limitations.toml; `--check` only compares."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "limitations.toml"
PAGE = ROOT / "docs" / "limitations.md"
OPENING = """# Known limitations

Generated from `docs/limitations.toml` by `tools/write_limitations.py`. `tests/skips.toml` has the
reasons of skipped tests.
"""


def page() -> str:
    limitations = tomllib.loads(DATA.read_text(encoding="utf-8"))["limitation"]
    lines = [OPENING, "| subject | part | limitation |", "|---|---|---|"]
    for one in limitations:
        reason = one["reason"][0].upper() + one["reason"][1:]
        lines.append(f"| {one['name']} | {one['where']} | {reason}. |")
    return "\n".join(lines) + "\n"


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
