"""Instructions in user space that a request takes, by library and module.

    python -m benchmarks.instructions [--workload NAME] [IMPLEMENTATION…]

Callgrind counts them: each run gives nearly the same figure, whatever else the machine does.  What
the kernel does, and how long an instruction takes, is not counted.  It needs Debian's valgrind.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.measure import Running, Settings
from benchmarks.workload import Workload, all_workloads

COST = re.compile(r"[+*-]?\d* (\d+)$")
MODULE = re.compile(r"(?:^|/)(?:site-packages|src|lib)/([\w/]+)\.[\w.-]*so$")


@dataclass(frozen=True, kw_only=True)
class UnderCallgrind(Workload):
    result: str  # where the count is written

    def command(self, implementation: str) -> list[str]:
        callgrind = ["valgrind", "-q", "--log-file=/dev/null", "--tool=callgrind"]
        callgrind += ["--instr-atstart=no", f"--callgrind-out-file={self.result}"]
        return [*callgrind, *super().command(implementation)]


def place_of(library: str) -> str:
    """The row of a library: a module of a package, Python, or the C library."""
    name = Path(library).name
    if name.startswith(("python", "libpython")):
        return "Python"
    if name.startswith("libc."):
        return "C library"
    match = MODULE.search(library)
    return match[1] if match else name


def costs(text: str) -> Counter[str]:
    """Instructions by place.

    The text is in Callgrind's format: the line after a `calls=` is what was called costs, which is
    counted where it was spent.
    """
    libraries: dict[str, str] = {}
    found: Counter[str] = Counter()
    place, called = "", False
    for line in text.splitlines():
        if line.startswith(("ob=", "cob=")):
            number, _, name = line.partition("=")[2].partition(" ")
            libraries.setdefault(number, place_of(name))
            if line.startswith("ob="):
                place = libraries[number]
        elif line.startswith("calls="):
            called = True
        elif match := COST.match(line):
            if not called:
                found[place] += int(match[1])
            called = False
    return found


def measure(workload: Workload, implementation: str, operations: int) -> dict[str, float]:
    """Instructions for each request by place.  Raises Failure where the program fails."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "callgrind")
        own = {field.name: getattr(workload, field.name) for field in fields(workload)}
        under = UnderCallgrind(**own, result=str(result))
        with Running(under, implementation, Settings(operations=operations)) as running:
            control(running.pid, "-i", "on")
            done = running.measure()["operations"]
            control(running.pid, "-i", "off")
            control(running.pid, "-d")
        counted = costs(result.with_name("callgrind.1").read_text(encoding="utf-8"))
    return {place: count / done for place, count in counted.items()}


def control(pid: int, *arguments: str) -> None:
    subprocess.run(["callgrind_control", *arguments, str(pid)], check=True, capture_output=True)


def table(figures: dict[str, float]) -> str:
    """Those of a hundredth and more, the most expensive first."""
    total = sum(figures.values())
    lines = ["| where | instructions |", "|---|---|"]
    shown = [(count, place) for place, count in figures.items() if count >= total / 100]
    lines += [f"| {place} | {count:,.0f} |" for count, place in sorted(shown, reverse=True)]
    rest = total - sum(count for count, _ in shown)
    return "\n".join([*lines, f"| all others | {rest:,.0f} |", f"| **sum** | **{total:,.0f}** |"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("--workload", default="echo-protocol-64B-100")
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("implementations", nargs="*", default=["aiopoll", "uvloop", "rloop"])
    arguments = parser.parse_args()
    known = {workload.name: workload for workload in all_workloads()}
    if arguments.workload not in known:
        parser.error(f"no workload is called {arguments.workload}")
    if not shutil.which("valgrind"):
        parser.error("valgrind is not there: apt-get install valgrind")
    for implementation in arguments.implementations:
        figures = measure(known[arguments.workload], implementation, arguments.operations)
        print(f"{arguments.workload}, {implementation}\n\n{table(figures)}\n")


if __name__ == "__main__":
    main()
