"""Writes the known gaps of known_gaps.toml into README.md; `--check` only says if they differ."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START = "<!-- known gaps: generated from known_gaps.toml by tools/readme_gaps.py -->\n"
END = "<!-- end of known gaps -->"


def expected_readme() -> str:
    gaps = tomllib.loads((ROOT / "known_gaps.toml").read_text(encoding="utf-8")).get("gap", [])
    lines = [f"- {gap['name']} ({gap['where']}): {gap['reason']}" for gap in gaps]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(START)
    after = rest.split(END, 1)[1]
    return f"{before}{START}{chr(10).join(lines) or 'None.'}\n{END}{after}"


def main() -> int:
    path = ROOT / "README.md"
    expected = expected_readme()
    if sys.argv[1:] == ["--check"]:
        return int(path.read_text(encoding="utf-8") != expected)
    path.write_text(expected, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
