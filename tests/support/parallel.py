"""Runs pytest in several processes that share the modules: python -m tests.support.parallel 4 ARGS.

Rule.  Every process collects all tests.  Before the first test of a module it creates the module's
file in the directory of claims.  Only one process can; the others pass over the module.  Why.  The
tests fork and count threads, so their process must have one thread.  A worker that is fed through a
connection has more.  Many wait, for the kernel to end an AIO context or for a child: processes may
outnumber cores.  Cost.  Each process imports every module, some seconds.

The first process's output is shown as it comes, the others' when they have ended.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

DIRECTORY = "AIOPOLL_TEST_CLAIMS"
"""The environment variable that names the directory of claims to pytest's processes."""

FIRST = ("soak", "slow")
"""Modules with tests so marked start first: the last to end keeps all others waiting."""

OUTCOMES = ("passed", "skipped", "failed", "error")


def _module(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _claim(module: str) -> bool:
    try:
        Path(os.environ[DIRECTORY], module.replace("/", "+")).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks: dict[str, int] = {}
    for item in items:
        marked = [rank for rank, name in enumerate(FIRST) if item.get_closest_marker(name)]
        ranks[_module(item)] = min(*marked, ranks.get(_module(item), len(FIRST)), len(FIRST))
    items.sort(key=lambda item: ranks[_module(item)])


def _claimed(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    is_ours: dict[str, bool] = {}
    for item in items:
        module = _module(item)
        if module not in is_ours:
            is_ours[module] = _claim(module)
        if is_ours[module]:
            yield item


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """pytest's own loop over the tests of the modules that are claimed."""
    if session.testsfailed or session.config.option.collectonly:
        return None  # pytest's own, which reports collection errors
    # The next test is claimed before this one runs, for the fixtures that both use.
    for item, following in itertools.pairwise(itertools.chain(_claimed(session.items), [None])):
        assert item is not None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = {what: terminalreporter.getreports(what) for what in OUTCOMES}
    result = {what: [report.nodeid for report in reports] for what, reports in found.items()}
    path = Path(os.environ[DIRECTORY], f"{os.getpid()}.json")
    path.write_text(json.dumps(result), encoding="utf-8")


def _start(number: int, directory: Path, arguments: list[str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-u", "-m", "pytest", "-p", __spec__.name, "-p", "no:cacheprovider"]
    command += ["-o", "console_output_style=classic", *arguments]
    env = {**os.environ, DIRECTORY: str(directory)}
    if number == 0:
        return subprocess.Popen(command, env=env)
    with _log(number, directory).open("wb") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)


def _log(number: int, directory: Path) -> Path:
    return directory / f"{number}.log"


def _status(number: int, process: "subprocess.Popen[bytes]", directory: Path) -> int:
    """The exit status, once the process has ended and its output is shown."""
    while True:
        try:
            status = process.wait()
            break
        except KeyboardInterrupt:
            pass  # pytest gets it too, and ends by it
    if number > 0:
        print(f"\n==== process {number + 1} ====", flush=True)
        sys.stdout.buffer.write(_log(number, directory).read_bytes())
        sys.stdout.flush()
    return status


def main(count: int, arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="aiopoll-tests-") as name:
        directory = Path(name)
        processes = [_start(number, directory, arguments) for number in range(count)]
        statuses = [_status(*pair, directory) for pair in enumerate(processes)]
        results = [json.loads(path.read_text("utf-8")) for path in directory.glob("*.json")]
    tests = {what: [test for result in results for test in result[what]] for what in OUTCOMES}
    told = ", ".join(f"{len(tests[what])} {what}" for what in OUTCOMES if tests[what])
    print(f"\n==== {count} processes: {told or 'no tests'} ====")
    for what in ("failed", "error"):
        for test in tests[what]:
            print(what.upper(), test)
    if set(statuses) == {pytest.ExitCode.NO_TESTS_COLLECTED}:
        return pytest.ExitCode.NO_TESTS_COLLECTED
    # The last process may find no module left.
    fine = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    for number, status in enumerate(statuses, 1):
        if status not in fine:
            print(f"process {number} ended with status {status}")
    return next((abs(status) for status in statuses if status not in fine), 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
