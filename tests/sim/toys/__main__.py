"""Prints what becomes of each toy: `python -m tests.sim.toys [--seeds N] [--twins N] [NAME ...]`.

The columns: the first seed that fails and how many of the seeds do, seeds per second of processor
time, deviations before and after shrinking, and how many seeds of the twin raise an alarm.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from aiopoll.sim.run import Outcome, run_once
from aiopoll.sim.shrink import Shrinker
from aiopoll.sim.tape import Tape, tape_of

from . import NAMES, Toy, load

TIME_LIMIT = 600.0


def run(toy: Toy, fixed: bool, tape: Tape) -> Outcome:
    return run_once(toy.of(fixed), tape, time_limit=TIME_LIMIT)


def row(toy: Toy, seeds: int, twins: int, schedule: str, shrinks: int) -> list[Any]:
    begin = time.process_time()
    failing = [seed for seed in range(seeds) if run(toy, False, tape_of(seed, schedule)).failed]
    rate = seeds / (time.process_time() - begin)
    plain = small = words = "-"
    if failing and shrinks:
        outcome = run(toy, False, tape_of(failing[0], schedule))
        shrinker = Shrinker(lambda tape: run(toy, False, tape), outcome, runs_max=shrinks)
        best = shrinker.shrink()
        plain, small = str(len(outcome.deviations)), str(len(best.deviations))
        words = (
            str(outcome.error).splitlines()[0][:60] if str(outcome.error) else repr(outcome.error)
        )
    alarms = [seed for seed in range(twins) if run(toy, True, tape_of(seed, schedule)).failed]
    first = failing[0] if failing else "-"
    alarm = f"{len(alarms)} (seed {alarms[0]})" if alarms else "0"
    return [toy.name, first, len(failing), f"{rate:.0f}", plain, small, alarm, words]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.toys", description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--twins", type=int, default=200)
    parser.add_argument("--schedule", default="mixed")
    parser.add_argument("--shrinks", type=int, default=400, help="runs that shrinking may take")
    options = parser.parse_args()
    form = "{:20} {:>5} {:>6} {:>7} {:>6} {:>6}  {:12} {}"
    print(
        form.format("toy", "first", "found", "seeds/s", "plain", "shrunk", "twin alarms", "error")
    )
    for name in options.names:
        print(
            form.format(
                *row(load(name), options.seeds, options.twins, options.schedule, options.shrinks)
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
