"""The pytest plugin of aiopoll.sim: options, and a fixed order of sets; pytest loads it by itself.

Facts: pytest imports its plugins in every run, also where no test is simulated. The order of a set
of strings depends on PYTHONHASHSEED, which only a new process can take.

Rule: this module imports nothing of the package until a simulated test is there; sim/items.py does
the work. If sets have a random order when such tests have been collected, the process starts itself
again, once, with the same arguments and PYTHONHASHSEED=0, or with that of the tape that is
replayed. It does so only where pytest itself was the command: a program that calls pytest.main()
has other things to lose, and is warned. Processes of pytest-xdist get the variable from their
parent, which has collected nothing: it looks for the words in the files.

`-p no:aiopoll_sim` leaves the plugin out; simulated tests then run as plain functions.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aiopoll.sim import items

HASH_SEED = "PYTHONHASHSEED"
STARTED_AGAIN = "AIOPOLL_SIM_STARTED_AGAIN"
"""The environment variable of a process that has started itself again."""
WORDS = re.compile(rb"aiopoll\.sim\b|from aiopoll import [^\n]*\bsim\b")
FILES_MAX = 5000

session_key: pytest.StashKey[items.Session] = pytest.StashKey()
unpinned_key: pytest.StashKey[str] = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    group = parser.getgroup("aiopoll_sim", "simulated tests (aiopoll.sim)")
    group.addoption(
        "--sim-seed", type=int, metavar="N", help="run simulated tests by this seed alone"
    )
    group.addoption(
        "--sim-seeds", type=_positive, metavar="N", help="run them by N seeds, from 0 on"
    )
    group.addoption("--sim-replay", metavar="FILE", help="run them by the tape of this file alone")
    group.addoption(
        "--sim-shrink",
        action="store_true",
        default=True,
        help="look for the few choices that a failure needs (the default)",
    )
    group.addoption(
        "--no-sim-shrink", dest="sim_shrink", action="store_false", help="leave failures as found"
    )
    group.addoption(
        "--sim-trace",
        metavar="FILE",
        help="write the run for ui.perfetto.dev, and an HTML page beside it",
    )
    group.addoption(
        "--sim-jobs",
        type=_jobs,
        default=None,
        metavar="N",
        help="run the seeds of a test in N processes; auto: one for each core",
    )
    if importlib.util.find_spec("xdist") is None:
        try:
            # A method of pytest's own plugins: lower-case letters are theirs.
            group._addoption("-n", dest="sim_n", type=_jobs, metavar="N", help="as --sim-jobs")
        except ValueError:
            pass  # another plugin has it


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _jobs(text: str) -> int:
    return len(os.sched_getaffinity(0)) if text == "auto" else _positive(text)


def is_simulated(item: pytest.Item) -> bool:
    """Whether the item was made by sim.test."""
    return (
        "aiopoll.sim.testing" in sys.modules
        and getattr(getattr(item, "obj", None), "sim_test", None) is not None
    )


# A fixed order of sets


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if config.option.collectonly or not any(map(is_simulated, session.items)):
        return
    from aiopoll.sim import items
    from aiopoll.sim.tapefile import hash_seed

    found = items.Session(config)
    wanted = found.hash_seed
    current = hash_seed()
    if current == "random" or wanted not in (None, current):
        config.stash[unpinned_key] = _start_again(config, wanted or "0")
    config.stash[session_key] = found


def _start_again(config: pytest.Config, seed: str) -> str:
    """Replace this process by one with the hash seed; returns why that cannot be done."""
    if hasattr(config, "workerinput"):
        return "this is a process of pytest-xdist"
    if os.environ.get(STARTED_AGAIN) or sys.flags.ignore_environment:
        return "this Python ignores it"
    if not _is_command(config):
        return "pytest runs inside of another program"
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"aiopoll.sim: again, with {HASH_SEED}={seed}")
    sys.stdout.flush()
    sys.stderr.flush()
    environment = {**os.environ, HASH_SEED: seed, STARTED_AGAIN: "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    raise AssertionError("execve returned")  # for the types; it never does


def _is_command(config: pytest.Config) -> bool:
    """Whether this process was started as `pytest …` or `python -m pytest …`."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return (
        name in ("pytest", "py.test", "pytest.exe")
        and tuple(config.invocation_params.args) == tuple(sys.argv[1:])
        and len(sys.orig_argv) > 1
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    if os.environ.get(HASH_SEED, "random") in ("", "random") and has_words(config):
        os.environ[HASH_SEED] = "0"


def has_words(config: pytest.Config) -> bool:
    """Whether a file that pytest is given, or one below a folder, names aiopoll.sim."""
    looked = 0
    for argument in config.args:
        path = config.invocation_params.dir / argument.partition("::")[0]
        for file in [path] if path.is_file() else path.rglob("*.py"):
            looked += 1
            if looked > FILES_MAX:
                return True
            try:
                if WORDS.search(file.read_bytes()):
                    return True
            except OSError:
                continue
    return False


# Running


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    __tracebackhide__ = True
    session = pyfuncitem.config.stash.get(session_key, None)
    if session is None or not is_simulated(pyfuncitem):
        return None
    session.run(pyfuncitem)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    session = item.config.stash.get(session_key, None)
    if session is not None:
        session.add_to(item, report)
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if reason := config.stash.get(unpinned_key, None):
        terminalreporter.write_line(
            f"aiopoll.sim: {HASH_SEED} is not fixed ({reason}): sets have another order next time",
            yellow=True,
        )
    if session := config.stash.get(session_key, None):
        for line in session.summary():
            terminalreporter.write_line(line, yellow=True)
