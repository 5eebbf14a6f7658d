"""aiopoll sim: simulated tests without pytest, by seeds, by a tape, or in every order.

Exit status: 0 if all passed, 1 if a run failed or two runs differ, 2 if there is nothing to run.

Rule: a run needs a fixed order of sets, which only a new process can take; so this one starts
itself again, once, with PYTHONHASHSEED as the tape has it, or 0.  A tape of a test that needs
pytest is replayed by pytest.
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED_AGAIN = "AIOPOLL_SIM_STARTED_AGAIN"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("sim", help="run simulated tests (aiopoll.sim)")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    replay = commands.add_parser("replay", help="run a test by the tape of a failure")
    replay.add_argument("file", metavar="FILE", help="a tape, as in .sim/")
    _add_trace(replay)
    replay.add_argument(
        "--times", type=_positive, default=1, metavar="N", help="run N times, and compare"
    )
    _add_handler(replay, _replay)

    diff = commands.add_parser("diff", help="show the first difference of two tapes or traces")
    diff.add_argument("one", metavar="A")
    diff.add_argument("other", metavar="B")
    _add_handler(diff, _diff)

    run = commands.add_parser("run", help="run a test by many seeds, until one fails")
    run.add_argument("test", metavar="FILE.py::NAME")
    run.add_argument("--seeds", type=_positive, metavar="N", help="by N seeds, from 0 on")
    run.add_argument("--seed", type=int, metavar="N", help="by this seed alone")
    run.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="in N processes; auto")
    run.add_argument("--no-shrink", action="store_true", help="leave a failure as it was found")
    _add_trace(run)
    _add_handler(run, _run)

    explore = commands.add_parser("explore", help="run a small test in every order")
    explore.add_argument("test", metavar="FILE.py::NAME")
    explore.add_argument(
        "--preemptions",
        type=int,
        default=2,
        metavar="N",
        help="choices of an order that are not the plain one (default: 2)",
    )
    explore.add_argument(
        "--limit", type=_positive, default=100_000, metavar="N", help="give up after N orders"
    )
    _add_trace(explore)
    _add_handler(explore, _explore)


def _add_trace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trace", metavar="OUT", help="write the run for ui.perfetto.dev, and a page beside it"
    )


def _add_handler(
    parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]
) -> None:
    parser.set_defaults(handler=functools.partial(_handle, command))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _jobs(text: str) -> int:
    return len(os.sched_getaffinity(0)) if text == "auto" else _positive(text)


def _handle(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    from aiopoll.sim.loading import LoadError
    from aiopoll.sim.tapefile import TapeError

    try:
        return command(arguments)
    except (TapeError, LoadError, OSError) as error:
        print(f"aiopoll sim: {error}", file=sys.stderr)
        return 2


def _fix_hash_seed(wanted: str | None) -> None:
    """Start this process again if sets have another order; None: any that is fixed will do."""
    from aiopoll.sim.tapefile import hash_seed

    current = hash_seed()
    if current != "random" and wanted in (None, current):
        return
    program = Path(sys.argv[0])
    is_command = program.name == "aiopoll" or program.parts[-2:] == ("aiopoll", "__main__.py")
    if os.environ.get(STARTED_AGAIN) or sys.flags.ignore_environment or not is_command:
        print("aiopoll sim: PYTHONHASHSEED cannot be fixed here", file=sys.stderr)
        return
    environment = {**os.environ, "PYTHONHASHSEED": wanted or "0", STARTED_AGAIN: "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _replay(arguments: argparse.Namespace) -> int:
    from aiopoll.sim import followup
    from aiopoll.sim.loading import NeedsPytest, load_test
    from aiopoll.sim.tapefile import load

    tape = load(arguments.file)
    _fix_hash_seed(None if tape.hash_seed == "random" else tape.hash_seed)
    try:
        run = _runner(load_test(tape.test))
    except NeedsPytest:
        return _replay_by_pytest(tape.test, arguments)
    if arguments.times > 1:
        difference = followup.difference_of(run, tape.deviations, tape.seed, arguments.times)
        print(difference or f"{arguments.times} runs are the same.")
        if difference is not None:
            return 1
    outcome = run(tape.tape())
    return _report(run, outcome, tape.test, arguments, replayed=Path(arguments.file))


def _replay_by_pytest(test: str, arguments: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "pytest", test, f"--sim-replay={arguments.file}"]
    if arguments.trace:
        command.append(f"--sim-trace={arguments.trace}")
    if arguments.times > 1:
        print("aiopoll sim: pytest runs this test, and once", file=sys.stderr)
    return os.execv(sys.executable, command)


def _run(arguments: argparse.Namespace) -> int:
    from aiopoll.sim.jobs import Progress, first_failing
    from aiopoll.sim.loading import load_test

    _fix_hash_seed(None)
    test = load_test(arguments.test)
    run = _runner(test)
    seeds = range(arguments.seeds or test.options.seeds)
    if arguments.seed is not None:
        seeds = range(arguments.seed, arguments.seed + 1)
    last: list[Any] = []

    def fails(seed: int) -> bool:
        last[:] = [run(test.tape_of(seed))]
        return bool(last[0].failed)

    line = _Line()

    def show(progress: Progress) -> None:
        line.show(f"{progress.done:,} of {progress.total:,} seeds, {progress.rate:,.0f} a second")

    found = first_failing(fails, seeds, jobs=arguments.jobs, report=show)
    line.clear()
    seed = seeds[-1] if found is None else found
    outcome = last[0] if last and last[0].seed == seed else run(test.tape_of(seed))
    if found is None:
        print(f"{len(seeds):,} seeds passed.")
        if not arguments.trace:
            return 0
    return _report(run, outcome, arguments.test, arguments, shrink=not arguments.no_shrink)


def _explore(arguments: argparse.Namespace) -> int:
    from aiopoll.sim import explore
    from aiopoll.sim.loading import load_test

    _fix_hash_seed(None)
    test = load_test(arguments.test)
    options = test.options
    try:
        found = explore(
            test.program,
            preemptions=arguments.preemptions,
            limit=arguments.limit,
            time_limit=options.time_limit,
        )
    except RuntimeError as error:
        print(f"aiopoll sim: {error}", file=sys.stderr)
        return 2
    if found.failure is None:
        print(f"{found.runs:,} orders passed.")
        return 0
    print(f"Order {found.runs:,} failed.\n")
    return _report(_runner(test), found.failure, arguments.test, arguments, shrink=True)


def _diff(arguments: argparse.Namespace) -> int:
    from aiopoll.sim.differences import first_difference

    lines = first_difference(arguments.one, arguments.other)
    print("\n".join(lines) if lines else "They are the same.")
    return 1 if lines else 0


def _runner(test: Any) -> Any:
    """Returns a function that runs the test by a tape, as followup.Runner."""
    return lambda tape, **options: test.run(tape, {}, **options)


def _report(
    run: Any,
    outcome: Any,
    test: str,
    arguments: argparse.Namespace,
    *,
    shrink: bool = False,
    replayed: Path | None = None,
) -> int:
    """Prints what came of a run, and writes its pages; returns the exit status."""
    from aiopoll.sim.followup import Wishes, follow_up, narrated, write_pages
    from aiopoll.sim.report import headline

    trace = Path(arguments.trace) if arguments.trace else None
    if not outcome.failed:
        print(headline(outcome))
        if trace is not None:
            again, draws = narrated(run, outcome)
            for path in write_pages(trace, again, test, draws, headline(again)):
                print(f"written: {path}")
        return 0
    line = _Line()
    wishes = Wishes(
        test,
        shrink=shrink,
        trace=trace,
        replayed=replayed,
        width=_width(),
        color=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
        progress=lambda shrinker: line.show(
            f"shrinking: {len(shrinker.deviations):,} choices after {shrinker.runs:,} runs"
        ),
    )
    finding = follow_up(run, outcome, wishes)
    line.clear()
    print(finding.report)
    for path in finding.pages:
        print(f"written: {path}")
    return 1


def _width() -> int:
    try:
        return max(60, min(120, os.get_terminal_size().columns))
    except OSError:
        return 100


class _Line:
    """A line of progress on stderr, if that is a terminal."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def show(self, text: str) -> None:
        if self._is_terminal:
            print(f"\r\x1b[K{text[: _width() - 1]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        self.show("")
