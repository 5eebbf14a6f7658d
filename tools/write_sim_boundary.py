"""Writes docs/reference/sim-boundary.md from the data beside it; `--check` only compares."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "reference" / "sim-boundary.toml"
PAGE = DATA.with_suffix(".md")
OPENING = """# What is inside a simulated world

Generated from `docs/reference/sim-boundary.toml` by `tools/write_sim_boundary.py`; each name is
tried by `tests/sim/test_boundary.py`.

Inside a world the ordinary names mean the world's things, for programs and for the libraries that
they use. A name that a module bound before the run (`from time import monotonic`) is replaced in
that module's globals. What leaves the world raises `aiopoll.sim.Escaped` with the line that asked.

Real, whichever module it comes by:

- originals that class bodies, default arguments and closures bound before the run, and all names of
  modules that `sys.modules` does not have
- locks, queues, executors and thread-locals inside of objects that were made before the run: a
  host's thread that waits for such a lock waits for the machine
- extension modules: their clocks, generators and files (`numpy.random`, OpenSSL); those that raise
  an audit event (files, sockets, processes) are refused
- the order of sets of a program's own objects, which is by address, unless their class has a hash
- threads that are started by an original of `_thread`, before Python 3.12, which raises no event
"""
HEADINGS = {
    "simulated": "The names mean the host's things.",
    "refused": "The names raise `Escaped` at the line that calls them.",
    "outside": "These have their ordinary meaning; the seed does not decide what they return.",
    "pure": "No effect outside: they compute, or are Python over simulated names.",
}


def names_of(entry: dict[str, dict[str, str]], kind: str) -> str:
    return ", ".join(f"`{name}`" for name in entry.get(kind, {}))


def page() -> str:
    modules = tomllib.loads(DATA.read_text(encoding="utf-8"))["module"]
    lines = [OPENING]
    for state, sentence in HEADINGS.items():
        chosen = [one for one in modules if one["state"] == state]
        lines += [f"## {state.capitalize()}", "", sentence, ""]
        if state == "pure":
            computing = [one["name"] for one in chosen if one["note"] == "Computes only."]
            chosen = [one for one in chosen if one["name"] not in computing]
            lines += ["Computing only: " + ", ".join(f"`{name}`" for name in computing) + ".", ""]
        with_names = state in ("simulated", "refused")
        lines.append("| module | note |" + (" simulated | refused |" if with_names else ""))
        lines.append("|---|---|" + ("---|---|" if with_names else ""))
        for one in chosen:
            row = f"| `{one['name']}` | {one['note'].replace('|', chr(92) + '|')} |"
            if with_names:
                row += f" {names_of(one, 'simulated')} | {names_of(one, 'refused')} |"
            lines.append(row)
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
