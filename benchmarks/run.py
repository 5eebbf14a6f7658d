"""python -m benchmarks.run: every workload, several rounds, the implementations in rotation.

Each round starts the processes of all implementations, and measures several short samples of each:
a disturbance on the machine affects neighbours alike.  The server runs on one CPU and its client on
another.  The output is a table during the run, the samples in build/bench, their results in
benchmarks/results/latest.json, and with --report an HTML page of plots.
"""

import argparse
import contextlib
import fnmatch
import functools
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.implementations import IMPLEMENTATIONS, missing
from benchmarks.measure import Failure, Round, Running, Settings
from benchmarks.record import name_of, new_record
from benchmarks.workload import Workload, all_workloads

try:
    from benchmarks import compare
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
    parser.add_argument("--goals", action="store_true", help="only the workloads that have a goal")
    parser.add_argument(
        "--implementations",
        nargs="+",
        metavar="NAME",
        help=f"only these of {', '.join(IMPLEMENTATIONS)}",
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="default: 3; 15 pairs with --compare"
    )
    parser.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help="of each implementation in a round; default: 8, with --compare 2",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="of each implementation in a round; default: 3, with --compare 1",
    )
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds before each round")
    parser.add_argument("--server-cpu", type=int, default=cpus[0])
    parser.add_argument("--client-cpu", type=int, default=cpus[-1])
    parser.add_argument(
        "--no-system-calls", action="store_true", help="skip the pass that counts them"
    )
    parser.add_argument("--small", action="store_true", help="only see that it works: no figures")
    parser.add_argument(
        "--output", type=Path, metavar="FILE.json", help="write the samples here and nowhere else"
    )
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="draw plots (matplotlib)")
    parser.add_argument("--list", action="store_true", help="names of the workloads, and no more")
    parser.add_argument(
        "--compare",
        metavar="REV",
        help="build that revision and this checkout, measure them in pairs; exit status 1: slower",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=0.98,
        help="slower is what has its whole interval below this (default: %(default)s)",
    )
    # Former names, which --help does not list any more.
    old: dict[str, Any] = {"help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    parser.add_argument("--aims", dest="goals", action="store_true", **old)
    parser.add_argument("--contenders", dest="implementations", nargs="+", **old)
    parser.add_argument("--turns", dest="samples", type=int, **old)
    return parser


def chosen(arguments: argparse.Namespace) -> list[Workload]:
    with_goal = {goal["workload"] for goal in results.all_goals()}
    return [
        workload
        for workload in all_workloads()
        if any(fnmatch.fnmatch(workload.name, pattern) for pattern in arguments.workloads)
        and (workload.name in with_goal or not arguments.goals)
    ]


def run_workload(
    workload: Workload,
    implementations: list[str],
    rounds: int,
    samples: int,
    settings: Settings,
    count_system_calls: bool,
    screen: Screen,
) -> dict[str, Any]:
    """The `results.workload_result` of the samples; an implementation that fails drops out."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in implementations}
    failures: dict[str, str] = {}
    calls: dict[str, float] = {}
    reasons = dict.fromkeys(implementations, "not asked for")
    if workload.alone:
        samples = 1
    size = replace(settings, seconds=settings.seconds / samples)
    start = functools.partial(Running, workload, settings=size)
    for index in range(rounds):
        with contextlib.closing(Round(workload.alone, start, failures)) as this:
            for sample in range(samples):
                # Each is first once: heating up or filling caches does not favour the same one
                # always.
                first = (index + sample) % len(implementations)
                for name in [*implementations[first:], *implementations[:first]]:
                    screen.doing(workload.name, name, f"round {index + 1}")
                    if one := this.ask(name, Running.measure):
                        measured[name].append(one)
            for name in implementations if count_system_calls and index == rounds - 1 else ():
                screen.doing(workload.name, name, "system calls")
                if name != "fio":
                    calls_or_reason = this.ask(name, count_calls)
                    if isinstance(calls_or_reason, str):
                        reasons[name] = calls_or_reason
                    elif calls_or_reason is not None:
                        calls[name] = calls_or_reason
    summaries: dict[str, Any] = {}
    for name in implementations:
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


def plan_of(
    workloads: list[Workload], wanted: list[str] | None, skipped: dict[str, str]
) -> list[tuple[Workload, list[str]]]:
    """Each workload with its implementations here; `skipped` gets the reasons of the others."""
    plan = []
    for workload in workloads:
        able = []
        for name in workload.implementations:
            if wanted and name not in wanted:
                continue
            if reason := missing(name):
                skipped[name] = reason
            elif reason := workload.missing(name):
                skipped[workload.name] = reason
            else:
                able.append(name)
        if able:
            plan.append((workload, able))
    return plan


def run_all(arguments: argparse.Namespace, workloads: list[Workload], settings: Settings) -> int:
    rounds, samples = (1, 1) if arguments.small else (arguments.rounds, arguments.samples)
    record = new_record(settings, rounds, samples)
    run = results.new_results(record)
    # A run of some of the implementations would leave no ratio to the others.
    update_latest = not (arguments.small or arguments.output or arguments.implementations)
    path = arguments.output
    if path is None and not arguments.small:
        path = results.default_path(record)
    plan = plan_of(workloads, arguments.implementations, record["skipped"])
    calls = int(not arguments.no_system_calls)
    steps = sum(
        len(able) * (rounds * (1 if workload.alone else samples) + calls) for workload, able in plan
    )
    with Screen(record, steps) as screen:
        for workload, able in plan:
            size = settings
            if arguments.small:
                workload = workload.small()
                size = replace(settings, operations=workload.small_operations)
            result = run_workload(
                workload, able, rounds, samples, size, not arguments.no_system_calls, screen
            )
            run["workloads"][workload.name] = {"run": name_of(record), **result}
            screen.show(workload.name, result)
            if path:
                results.save(run, path)  # after each, so that a run cut short keeps its results
            if update_latest:
                results.update_latest(run)
        screen.sum_up(run, [path] * bool(path) + [results.LATEST] * update_latest)
    if arguments.report:
        from benchmarks import report

        report.write([run], arguments.report)
        print(f"report: {arguments.report}")
    failed = [
        f"{name}: {implementation}: {one['failure']}"
        for name, result in run["workloads"].items()
        for implementation, one in result["implementations"].items()
        if "failure" in one
    ]
    for line in failed:
        print(line, file=sys.stderr)
    return int(bool(failed))


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    workloads = chosen(arguments)
    if not workloads:
        print("no workload is called so; --list names them", file=sys.stderr)
        return 2
    if unknown := set(arguments.implementations or ()) - set(IMPLEMENTATIONS):
        print(f"no implementation is called {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    if arguments.list:
        for workload in workloads:
            print(f"{workload.name:28} {workload.title}")
        return 0
    if arguments.server_cpu == arguments.client_cpu:
        print("one CPU for server and client: only ratios mean something", file=sys.stderr)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the children inherit it
    defaults = (15, 2, 1.0) if arguments.compare else (3, 8, 3.0)
    for name, default in zip(("rounds", "samples", "seconds"), defaults, strict=True):
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
    settings = Settings(
        seconds=arguments.seconds,
        warm_up=0.0 if arguments.small else arguments.warm_up,
        server_cpu=arguments.server_cpu,
        client_cpu=arguments.client_cpu,
    )
    if arguments.compare:
        return compare.run(arguments, workloads, settings)
    return run_all(arguments, workloads, settings)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
