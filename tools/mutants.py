"""Plants one fault at a time, and lists those that the tests of its area miss.

python tools/mutants.py [NAME ...] [--area AREA] [--list] [--workers N]

The faults are in mutants.toml: a text of a source that occurs once, what takes its place, and the
tests that must fail then.  Each worker has a copy of the checkout, built modules and all, so that
only the changed module is compiled.  Nothing is written into the checkout.

A test that fails, crashes or hangs has caught the fault.  The status is 1 if one survived that is
not said to be equivalent, or if one that is said to be was caught.
"""

import argparse
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(__file__).with_suffix(".toml")
SOURCES = Path("src")
MARK = "AIOPOLL_MUTANT_TREE"
"""The variable that every process of a worker has in its environment."""
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
INCLUDE = sysconfig.get_path("include")
LIMIT_S = 90
"""What tests may take that take no time unmutated."""
LEFT_OUT = (".git", ".venv*", "build", "dist", "__pycache__", ".*_cache", ".hypothesis", "results")

Job = TypeVar("Job")


@dataclass(frozen=True)
class Mutant:
    """equivalent: why no test can notice it; empty for all others."""

    name: str
    area: str
    file: str
    search: str
    replace: str
    tests: str
    equivalent: str = ""


@dataclass(frozen=True)
class Outcome:
    verdict: str  # caught, survived or broken
    seconds: float
    detail: str


def load(path: Path = DATA) -> list[Mutant]:
    return [Mutant(**entry) for entry in tomllib.loads(path.read_text("utf-8"))["mutant"]]


def apply(text: str, mutant: Mutant) -> str:
    """The mutated source; ValueError if the mutant does not apply to it."""
    count = text.count(mutant.search)
    if count != 1:
        raise ValueError(f"{mutant.name}: its text occurs {count} times in {mutant.file}")
    return text.replace(mutant.search, mutant.replace)


def users_of(header: str, sources: Path) -> list[Path]:
    """The modules that use a function of a header, or of one that includes it."""
    texts = {path.name: path.read_text("utf-8") for path in sources.rglob("c/*.h")}
    headers = {header}
    while more := {
        name
        for name, text in texts.items()
        if name not in headers and headers & set(re.findall(r'#include "([\w.]+)"', text))
    }:
        headers |= more
    functions = set()
    for name in headers:
        functions |= set(re.findall(r"^static inline [^(;]*?(\w+)\(", texts[name], re.MULTILINE))
    return sorted(
        path
        for path in sources.rglob("*.pyx")
        if functions & set(re.findall(r"\w+", path.read_text("utf-8")))
    )


class Tree:
    """A copy of the checkout, in which one fault at a time is planted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copytree(ROOT, path, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(path / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            MARK: str(path),
        }

    def compile(self, modules: Iterable[Path], *, from_cython: bool) -> None:
        """Compiles modules anew, as fast as it goes; CalledProcessError if it does not."""
        cc = shlex.split(os.environ.get("CC", "gcc"))
        folders = sorted({path.parent for path in self.path.glob("src/**/c/*.h")})
        for source in modules:
            if from_cython:
                cython = [sys.executable, "-m", "cython", "-3", "-X", "binding=True", "-Isrc"]
                self.call([*cython, str(source)])
            flags = ["-O0", "-w", "-std=c11", "-D_GNU_SOURCE", "-DCYTHON_WITHOUT_ASSERTIONS"]
            paths = [*(f"-I{folder}" for folder in folders), f"-I{INCLUDE}"]
            output = source.with_suffix(SUFFIX)
            (self.path / output).unlink(missing_ok=True)
            compiled = [str(source.with_suffix(".c")), "-o", str(output)]
            self.call([*cc, "-shared", "-fPIC", *flags, *paths, *compiled])

    def call(self, command: Sequence[str]) -> None:
        subprocess.run(
            command, cwd=self.path, env=self.environment, check=True, capture_output=True, text=True
        )

    def test(self, tests: str, limit_s: float) -> tuple[int | None, str]:
        """The exit status of pytest, None if it hung, and its last lines."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [*command, *shlex.split(tests)],
                cwd=self.path,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            status: int | None
            try:
                status = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                self.kill_all()
                process.wait()
            output.seek(0)
            return status, output.read()

    def kill_all(self) -> None:
        """Kills every process of this tree, wherever in the table of processes it is."""
        mark = f"{MARK}={self.path}\0".encode()
        while True:
            alive = False
            for entry in Path("/proc").glob("[0-9]*"):
                try:
                    if mark in (entry / "environ").read_bytes():
                        os.kill(int(entry.name), signal.SIGKILL)
                        alive = alive or "\nState:\tZ" not in (entry / "status").read_text("utf-8")
                except (OSError, ValueError):
                    continue
            if not alive:
                return
            time.sleep(0.05)

    def run(self, mutant: Mutant, limit_s: float) -> Outcome:
        """Plants a mutant, runs its tests, and restores the tree."""
        began = time.monotonic()
        source = Path(mutant.file)
        modules: list[Path] = []
        if source.suffix == ".pyx":
            modules = [source]
        elif source.suffix == ".h":
            users = users_of(source.name, self.path / SOURCES)
            modules = [path.relative_to(self.path) for path in users]
        changed = [source]
        for module in modules:
            changed += [module.with_suffix(".c"), module.with_suffix(SUFFIX)]
        kept = {path: (self.path / path).read_bytes() for path in changed}
        try:
            mutated = apply(kept[source].decode("utf-8"), mutant)
            (self.path / source).write_text(mutated, encoding="utf-8")
            self.compile(modules, from_cython=source.suffix == ".pyx")
            status, output = self.test(mutant.tests, limit_s)
        except subprocess.CalledProcessError as error:
            return Outcome("broken", time.monotonic() - began, str(error.stderr)[-2000:])
        finally:
            for path, data in kept.items():
                (self.path / path).unlink(missing_ok=True)  # it may be mapped
                (self.path / path).write_bytes(data)
        return Outcome(*verdict_of(status, output, time.monotonic() - began))


def verdict_of(status: int | None, output: str, seconds: float) -> tuple[str, float, str]:
    if status is None:
        return "caught", seconds, "hung"
    if status < 0:
        return "caught", seconds, f"died of signal {-status}"
    if status == 0:
        return "survived", seconds, ""
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    if status in (1, 2) and failed:
        return "caught", seconds, failed[0]
    return "broken", seconds, output[-2000:]


def check_tree(tree: Tree) -> None:
    """Whether what a worker tests is what it has compiled."""
    program = "import aiopoll.loop.core as loop; print(loop.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tree.path,
        env=tree.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if not Path(found).is_relative_to(tree.path):
        raise SystemExit(f"mutants: {found} is imported, not the copy in {tree.path}")


def work(trees: list[Tree], jobs: Iterable[Job], do: Callable[[Tree, Job], None]) -> None:
    """do(tree, job) for every job, each tree busy with one at a time."""
    free: queue.SimpleQueue[Tree] = queue.SimpleQueue()
    for tree in trees:
        free.put(tree)

    def run(job: Job) -> None:
        tree = free.get()
        try:
            do(tree, job)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        for done in [pool.submit(run, job) for job in jobs]:
            done.result()


def check_unmutated(trees: list[Tree], mutants: list[Mutant]) -> dict[str, float]:
    """The seconds that each selection of tests takes; SystemExit if one fails as it is."""
    took: dict[str, float] = {}
    failed: list[str] = []

    def check(tree: Tree, tests: str) -> None:
        began = time.monotonic()
        status, output = tree.test(tests, 600)
        took[tests] = time.monotonic() - began
        if status != 0:
            failed.append(f"{tests}: pytest returns {status}\n{output[-2000:]}")

    work(trees, dict.fromkeys(mutant.tests for mutant in mutants), check)
    if failed:
        raise SystemExit("mutants: the tests fail as it is\n" + "\n".join(failed))
    return took


def run_all(trees: list[Tree], mutants: list[Mutant]) -> dict[str, Outcome]:
    took = check_unmutated(trees, mutants)
    print(f"unmutated: {len(took)} selections of tests pass", flush=True)
    outcomes: dict[str, Outcome] = {}
    lock = threading.Lock()

    def run(tree: Tree, mutant: Mutant) -> None:
        outcome = tree.run(mutant, LIMIT_S + 4 * took[mutant.tests])
        with lock:
            outcomes[mutant.name] = outcome
            print(
                f"{mutant.area:<18} {mutant.name:<44} {outcome.verdict:<9}"
                f"{outcome.seconds:5.0f} s  {outcome.detail}",
                flush=True,
            )

    work(trees, mutants, run)
    return outcomes


def summary(mutants: list[Mutant], outcomes: dict[str, Outcome]) -> tuple[list[str], bool]:
    """The table by areas, what is to be looked at, and whether nothing is."""
    lines = ["", f"{'area':<18} planted  caught  survived"]
    wrong: list[str] = []
    for area in dict.fromkeys(mutant.area for mutant in mutants):
        verdicts = [outcomes[m.name].verdict for m in mutants if m.area == area]
        caught, survived = verdicts.count("caught"), verdicts.count("survived")
        lines.append(f"{area:<18} {len(verdicts):7} {caught:7} {survived:9}")
    for mutant in mutants:
        outcome = outcomes[mutant.name]
        if outcome.verdict == "broken":
            wrong.append(f"broken: {mutant.name}: {outcome.detail}")
        elif outcome.verdict == "survived":
            if mutant.equivalent:
                lines.append(f"equivalent: {mutant.name}: {mutant.equivalent}")
            else:
                wrong.append(f"survived: {mutant.name} ({mutant.tests})")
        elif mutant.equivalent:
            wrong.append(f"caught, and said to be equivalent: {mutant.name}: {outcome.detail}")
    caught = sum(outcome.verdict == "caught" for outcome in outcomes.values())
    lines.append(f"{caught} of {len(mutants)} caught, {100 * caught / len(mutants):.1f} %")
    return lines + wrong, not wrong


def chosen(arguments: argparse.Namespace) -> list[Mutant]:
    mutants = load()
    names = {mutant.name for mutant in mutants}
    if unknown := set(arguments.names) - names:
        raise SystemExit(f"mutants: no mutant is called {', '.join(sorted(unknown))}")
    return [
        mutant
        for mutant in mutants
        if (not arguments.names or mutant.name in arguments.names)
        and (not arguments.area or mutant.area == arguments.area)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="all, if none is named")
    parser.add_argument("--area", help="only those of one area")
    parser.add_argument("--list", action="store_true", help="what there is, and nothing else")
    parser.add_argument("--workers", type=int, default=2, help="trees side by side (2)")
    arguments = parser.parse_args()
    mutants = chosen(arguments)
    for mutant in mutants:
        try:
            apply((ROOT / mutant.file).read_text("utf-8"), mutant)
        except ValueError as error:
            raise SystemExit(f"mutants: {error}") from None
        if arguments.list:
            print(f"{mutant.area:<18} {mutant.name}")
    if arguments.list:
        return 0
    # Who is started in the background ignores it, and tests of Ctrl-C would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="aiopoll-mutants-") as folder:
        count = max(1, min(arguments.workers, len(mutants)))
        trees = [Tree(Path(folder) / str(number)) for number in range(count)]
        try:
            check_tree(trees[0])
            outcomes = run_all(trees, mutants)
        finally:
            for tree in trees:
                tree.kill_all()
    lines, good = summary(mutants, outcomes)
    print("\n".join(lines))
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
