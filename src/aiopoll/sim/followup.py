"""What is done about a failing run: it is repeated, made plain, saved, drawn and described.

Rule: one order for every caller, be it pytest or the command. The failing tape runs again, with a
digest; if it does not fail alike, the first difference is looked for, and nothing is shrunk: what
differs each time cannot be made plain. Then it is shrunk; what is left runs a last time, recorded.
The tape file is written before anything that may fail.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from .determinism import Difference, first_difference
from .failure import failure_of
from .pages import page, perfetto
from .pages.states import record_states
from .pages.timeline import event_text, timeline_of
from .report import WIDTH, Context, describe, headline
from .run import Outcome
from .shrink import RUNS_MAX, Shrinker
from .tape import Deviation, Tape, replay_of
from .tapefile import TapeFile, hash_seed, save
from .waiting import relative
from .words import Draw, Narrating
from .world import Event

FOLDER = ".sim"


class Runner(Protocol):
    """Runs the program once by a tape; options are those of run_once."""

    def __call__(self, tape: Tape, **options: object) -> Outcome: ...


@dataclass(frozen=True)
class Wishes:
    """What a caller wants of a failing run. `test` is "path::name".

    `replayed` is the tape file that the run repeats, if it does: then no other is written.
    """

    test: str
    shrink: bool = True
    runs: int = RUNS_MAX
    folder: Path = field(default_factory=lambda: Path(FOLDER))
    trace: Path | None = None
    replayed: Path | None = None
    width: int = WIDTH
    color: bool = False
    progress: Callable[[Shrinker[Outcome]], None] | None = None


@dataclass(frozen=True)
class Finding:
    """What came of it: the outcome that is left, its report, and the files that were written."""

    outcome: Outcome
    report: str
    tape: Path
    pages: Sequence[Path] = ()
    difference: Difference | None = None


def follow_up(run: Runner, outcome: Outcome, wishes: Wishes) -> Finding:
    """Return the finding of a failing outcome. OSError if its files cannot be written."""
    assert outcome.error is not None
    path = wishes.replayed or save(tape_path(wishes, outcome), tape_file(outcome, wishes.test))
    seed, deviations = outcome.tape.seed, outcome.tape.deviations
    # Of a tape that no seed makes, only the file repeats the run.
    is_of_seed = outcome.tape.strategy.name in ("uniform", "pct")
    option = f"--sim-seed={seed}" if is_of_seed else f"--sim-replay={_argument(path)}"
    # pytest fixes the order of sets to that of 0, if none is given.
    order = "" if hash_seed() in ("0", "random") else f"PYTHONHASHSEED={hash_seed()} "
    context = Context(
        commands=[
            f"{order}pytest {shlex.quote(wishes.test)} {option}",
            f"aiopoll sim replay {_argument(path)}",
        ],
        hash_seed=hash_seed(),
    )
    difference = None
    again = run(replay_of(deviations, seed=seed), digest=True)
    if again.error is None or failure_of(again.error) != failure_of(outcome.error):
        difference = difference_of(run, deviations, seed)
        context = replace(context, is_deterministic=False)
    elif wishes.shrink:
        shrinker: Shrinker[Outcome] = Shrinker(
            lambda tape: run(tape, digest=True),
            again,
            runs_max=wishes.runs,
            progress=wishes.progress,
        )
        found = len(deviations)
        again = shrinker.shrink()
        context = replace(
            context, found=found, runs=shrinker.runs, is_deterministic=shrinker.is_deterministic
        )
        if not shrinker.is_deterministic:
            difference = difference_of(run, deviations, seed)
    if context.is_deterministic:
        if wishes.replayed is None:
            save(path, tape_file(again, wishes.test, outcome.tape.strategy.name))
        again, draws = narrated(run, again)
        context = replace(context, draws=draws)
    else:
        again = outcome
    report = describe(again, context, width=wishes.width, color=wishes.color)
    if difference is not None:
        report += f"\n\n{difference}"
    pages: Sequence[Path] = ()
    if wishes.trace is not None:
        pages = write_pages(wishes.trace, again, wishes.test, context.draws, report)
    return Finding(again, report, path, pages, difference)


def _argument(path: Path) -> str:
    return shlex.quote(relative(str(path)))


def difference_of(
    run: Runner, deviations: Sequence[Deviation], seed: int, times: int = 2
) -> Difference | None:
    """Return where a run of a tape differs from the first of `times`, None if none does."""
    return first_difference(
        lambda tape, trace: run(tape, trace=trace),
        lambda: replay_of(deviations, seed=seed),
        times=times,
    )


def narrated(run: Runner, outcome: Outcome) -> tuple[Outcome, list[Draw]]:
    """Run the tape of an outcome again; returns the outcome with its events, and its draws."""
    strategy = Narrating(outcome.tape.deviations)
    again = run(
        Tape(strategy, seed=outcome.tape.seed), recording=True, digest=True, prepare=record_states
    )
    draws = strategy.draws(again.tape.deviations)
    return again, [replace(draw, happened=_fault_of(draw, again.events)) for draw in draws]


def _fault_of(draw: Draw, events: Sequence[Event]) -> str:
    """Return what a plan of faults did at this draw, "" if it is of another kind."""
    plan, _, kind = draw.deviation.label.partition(" ")
    if plan != "chaos":
        return ""
    for event in events:
        if event.at_ns == draw.deviation.at_ns and event.kind == kind:
            return f"{event.host or ''} {event_text(event)}".strip()
    return ""


def tape_file(outcome: Outcome, test: str, strategy: str | None = None) -> TapeFile:
    """Return what a tape file keeps of a run."""
    return TapeFile(
        test=test,
        seed=outcome.tape.seed,
        strategy=strategy or outcome.tape.strategy.name,
        deviations=list(outcome.tape.deviations),
        error=headline(outcome),
    )


def tape_path(wishes: Wishes, outcome: Outcome) -> Path:
    """Return the path of a tape: the test's name and the seed."""
    return wishes.folder / f"{file_name(wishes.test)}-{outcome.tape.seed}.json"


def file_name(test: str) -> str:
    """Return the name of a test without its path, and without what file systems refuse."""
    return re.sub(r"[^\w.-]+", "-", test.rpartition("::")[2]).strip("-")[:100] or "test"


def write_pages(
    path: Path, outcome: Outcome, test: str, draws: Sequence[Draw] | None, report: str
) -> tuple[Path, Path]:
    """Write the trace for Perfetto at `path` and the HTML page beside it; returns both paths."""
    title = f"{test}, seed {outcome.tape.seed}"
    timeline = timeline_of(outcome, title=title, draws=draws, report=report)
    path.parent.mkdir(parents=True, exist_ok=True)
    return perfetto.write(path, timeline), page.write(path.with_suffix(".html"), timeline)
