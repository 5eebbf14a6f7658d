"""python -m benchmarks.run: every workload, several rounds, the contenders in turn in each.

Each round starts the processes of all contenders, and measures them in several turns, a short time
each: what the machine does meanwhile befalls neighbours alike.  The server runs on one CPU and its
client on another.  What comes out is a table as it goes, a JSON file under benchmarks/results, and
with --report an HTML page of plots.
"""

import argparse
import contextlib
import fnmatch
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.contenders import CONTENDERS, missing
from benchmarks.measure import Failure, Running, Settings
from benchmarks.workload import Workload, all_workloads

try:
    from benchmarks.show import Screen
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed: pip install --group bench, or run make bench")


def parser() -> argparse.ArgumentParser:
    cpus = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(
        prog="aiopoll bench",
        description="Measures aiopoll, its peers and the references side by side.",
    )
    parser.add_argument(
        "--workloads", nargs="+", metavar="PATTERN", default=["*"], help="such as 'echo-*-64B-100'"
    )
    parser.add_argument("--aims", action="store_true", help="only the workloads that have an aim")
    parser.add_argument(
        "--contenders", nargs="+", metavar="NAME", help=f"only these of {', '.join(CONTENDERS)}"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=8, help="of each contender in a round")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each contender in a round")
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds before each round")
    parser.add_argument("--server-cpu", type=int, default=cpus[0])
    parser.add_argument("--client-cpu", type=int, default=cpus[-1])
    parser.add_argument(
        "--no-system-calls", action="store_true", help="skip the pass that counts them"
    )
    parser.add_argument("--small", action="store_true", help="only see that it works: no figures")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="draw plots (matplotlib)")
    parser.add_argument("--list", action="store_true", help="names of the workloads, and no more")
    return parser


def chosen(arguments: argparse.Namespace) -> list[Workload]:
    with_aim = {aim["workload"] for aim in results.all_aims()}
    return [
        workload
        for workload in all_workloads()
        if any(fnmatch.fnmatch(workload.name, pattern) for pattern in arguments.workloads)
        and (workload.name in with_aim or not arguments.aims)
    ]


class Round:
    """The contenders' processes, side by side or, where a workload wants it, one after another."""

    def __init__(self, workload: Workload, settings: Settings, failures: dict[str, str]) -> None:
        self._workload, self._settings, self._failures = workload, settings, failures
        self._running: dict[str, Running] = {}

    def ask(self, name: str, question: Callable[[Running], Any]) -> Any:
        """What `question` answers of the contender; None if it has failed, which is kept."""
        if name in self._failures:
            return None
        try:
            if self._workload.alone:
                with Running(self._workload, name, self._settings) as running:
                    return question(running)
            if name not in self._running:
                self._running[name] = Running(self._workload, name, self._settings)
            return question(self._running[name])
        except Failure as failure:
            self._failures[name] = str(failure)
            return None

    def close(self) -> None:
        for running in self._running.values():
            running.close()


def run_workload(
    workload: Workload,
    contenders: list[str],
    rounds: int,
    turns: int,
    settings: Settings,
    count_system_calls: bool,
    screen: Screen,
) -> dict[str, Any]:
    """What `results.workload_result` makes of the turns; a contender that fails leaves them."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    failures: dict[str, str] = {}
    calls: dict[str, float] = {}
    reasons = dict.fromkeys(contenders, "not asked for")
    if workload.alone:
        turns = 1
    size = replace(settings, seconds=settings.seconds / turns)
    for index in range(rounds):
        with contextlib.closing(Round(workload, size, failures)) as this:
            for turn in range(turns):
                # Each is first once: what heats up or fills is not always the same one's luck.
                first = (index + turn) % len(contenders)
                for name in [*contenders[first:], *contenders[:first]]:
                    screen.doing(workload, name, f"round {index + 1}")
                    if one := this.ask(name, Running.measure):
                        measured[name].append(one)
            for name in contenders if count_system_calls and index == rounds - 1 else ():
                screen.doing(workload, name, "system calls")
                if name != "fio":
                    calls_or_reason = this.ask(name, count_calls)
                    if isinstance(calls_or_reason, str):
                        reasons[name] = calls_or_reason
                    elif calls_or_reason is not None:
                        calls[name] = calls_or_reason
    summaries: dict[str, Any] = {}
    for name in contenders:
        if name in failures:
            summaries[name] = {"failure": failures[name]}
            continue
        if name in calls:
            for one in measured[name]:
                one["system_calls"] = calls[name]
        summaries[name] = {
            **results.summed_up(measured[name]),
            "system_calls_reason": None if name in calls else reasons[name],
        }
    return results.workload_result(workload, summaries)


def count_calls(running: Running) -> float | str:
    """System calls for each operation, or why they cannot be counted."""
    try:
        return running.system_calls()
    except Failure as failure:
        return str(failure)


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    workloads = chosen(arguments)
    if not workloads:
        print("no workload is called so; --list names them", file=sys.stderr)
        return 2
    if unknown := set(arguments.contenders or ()) - set(CONTENDERS):
        print(f"no contender is called {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    if arguments.list:
        for workload in workloads:
            print(f"{workload.name:28} {workload.title}")
        return 0
    if arguments.server_cpu == arguments.client_cpu:
        print("one CPU for server and client: only ratios mean something", file=sys.stderr)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the children inherit it
    settings = Settings(
        seconds=arguments.seconds,
        warm_up=arguments.warm_up,
        server_cpu=arguments.server_cpu,
        client_cpu=arguments.client_cpu,
    )
    rounds, turns = (1, 1) if arguments.small else (arguments.rounds, arguments.turns)
    run = results.new_run(settings, rounds, turns)
    run["small"] = arguments.small
    path = arguments.output
    if path is None and not arguments.small:
        path = results.default_path(run)

    plan: list[tuple[Workload, list[str]]] = []
    for workload in workloads:
        able = []
        for name in workload.contenders:
            if arguments.contenders and name not in arguments.contenders:
                continue
            if reason := missing(name):
                run["skipped"][name] = reason
            elif reason := workload.missing(name):
                run["skipped"][workload.name] = reason
            else:
                able.append(name)
        if able:
            plan.append((workload, able))
    calls = int(not arguments.no_system_calls)
    steps = sum(
        len(able) * (rounds * (1 if workload.alone else turns) + calls) for workload, able in plan
    )
    with Screen(run, steps) as screen:
        for workload, able in plan:
            size = settings
            if arguments.small:
                workload = workload.small()
                size = Settings(
                    operations=workload.small_operations,
                    server_cpu=settings.server_cpu,
                    client_cpu=settings.client_cpu,
                )
            result = run_workload(
                workload, able, rounds, turns, size, not arguments.no_system_calls, screen
            )
            run["workloads"][workload.name] = result
            screen.show(workload.name, result)
            if path:
                results.save(run, path)  # after each, so that a run cut short keeps what it has
        screen.sum_up(run, path)
    if arguments.report:
        from benchmarks import report

        report.write([run], arguments.report)
        print(f"report: {arguments.report}")
    failed = [
        f"{name}: {contender}: {one['failure']}"
        for name, result in run["workloads"].items()
        for contender, one in result["contenders"].items()
        if "failure" in one
    ]
    for line in failed:
        print(line, file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
