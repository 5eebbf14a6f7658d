"""Simulated tests in pytest: a search by seeds with its progress, and the report of a failure.

Rule: the test fails as its program did, with its own error and traceback; the report is a section
of its own beneath it. What the program skips is skipped. Tapes are kept in `.sim/` of the root
folder, which has a .gitignore of its own.
A test that passes has its first seed run twice more: what differs then is named at the end.
Cost: an error that a process of --sim-jobs found is raised again here, by one more run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .determinism import first_difference
from .failure import place_of, trimmed
from .followup import FOLDER, Wishes, file_name, follow_up, narrated, write_pages
from .jobs import Progress, first_failing
from .report import headline
from .run import Outcome
from .tapefile import TapeError, TapeFile, load
from .testing import SimTest, settings

if TYPE_CHECKING:
    from .shrink import Shrinker
    from .tape import Tape

_OUTCOMES = (pytest.skip.Exception, pytest.fail.Exception, pytest.exit.Exception)
_PASSED_ON = (pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception)
REPORT_SECONDS = 0.2
outside_key: pytest.StashKey[bool] = pytest.StashKey()
report_key: pytest.StashKey[str] = pytest.StashKey[str]()


class Session:
    """What the command line says, and the progress on the terminal."""

    def __init__(self, config: pytest.Config) -> None:
        option = config.option
        self.config = config
        self.shrink: bool = option.sim_shrink
        self.jobs: int = option.sim_jobs or getattr(option, "sim_n", None) or 1
        self.trace: Path | None = Path(option.sim_trace) if option.sim_trace else None
        self.replay: TapeFile | None = None
        self._drawn: int = 0
        self._remarks: list[str] = []
        settings.seed, settings.seeds = option.sim_seed, option.sim_seeds
        self._replayed: Path | None = Path(option.sim_replay) if option.sim_replay else None
        if option.sim_replay:
            try:
                self.replay = load(option.sim_replay)
            except (TapeError, OSError) as error:
                raise pytest.UsageError(str(error)) from None
        self._terminal = _Terminal(config)

    @property
    def hash_seed(self) -> str | None:
        """The value of PYTHONHASHSEED that a tape needs; None if any will do."""
        if self.replay is None or self.replay.hash_seed == "random":
            return None
        return self.replay.hash_seed

    def _folder(self) -> Path:
        """Return the folder of tapes, which git leaves out."""
        folder = self.config.rootpath / FOLDER
        folder.mkdir(exist_ok=True)
        ignored = folder / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n")
        return folder

    def run(self, item: pytest.Function) -> None:
        """Run the item by its seeds. Raises what the first failing one raises."""
        __tracebackhide__ = True
        test: SimTest = item.obj.sim_test
        names = item._fixtureinfo.argnames
        fixtures = {name: item.funcargs[name] for name in names}

        program = SimTest(_catching(test.program), test.options)

        def run(tape: Tape, **options: Any) -> Outcome:
            outcome = program.run(tape, fixtures, **options)
            if isinstance(outcome.error, Left):
                outcome.error = outcome.error.outcome
            return outcome

        with self._terminal:
            effects: list[dict[str, int]] = []
            outcome = self._search(test, run, effects)
            self._count_effects(item.nodeid, effects)
            if outcome is None or outcome.error is None:
                self._compare(item.nodeid, test, run)
            if outcome is None or outcome.error is None:
                if self.trace is not None and outcome is not None and not self._drawn:
                    again, draws = narrated(run, outcome)
                    write_pages(self.trace, again, item.nodeid, draws, headline(again))
                return
            if isinstance(outcome.error, _PASSED_ON):
                raise outcome.error
            wishes = Wishes(
                test=item.nodeid,
                shrink=self.shrink and self.replay is None,
                folder=self._folder(),
                trace=self._page_of(item),
                replayed=self._replayed,
                progress=self._terminal.shrinking,
            )
            finding = follow_up(run, outcome, wishes)
        lines = [finding.report, "", *(f"written: {path}" for path in finding.pages)]
        item.stash[report_key] = "\n".join(lines).rstrip()
        error = finding.outcome.error
        assert error is not None
        item.stash[outside_key] = not place_of(error.__traceback__)
        raise trimmed(error)

    def _page_of(self, item: pytest.Item) -> Path | None:
        """Return the path of a failure's trace; those after the first have the test's name."""
        if self.trace is None:
            return None
        self._drawn += 1
        if self._drawn == 1:
            return self.trace
        return self.trace.with_stem(f"{self.trace.stem}-{file_name(item.nodeid)}")

    def _search(self, test: SimTest, run: Any, effects: list[dict[str, int]]) -> Outcome | None:
        """Return the first outcome that fails; if none does, the last, or None after jobs.

        `effects` gets those of the runs of this process.
        """
        if self.replay is not None:
            outcome: Outcome = run(self.replay.tape())
            return outcome
        for tape in test.kept_tapes():
            outcome = run(tape)
            effects.append(outcome.effects)
            if outcome.error is not None:
                return outcome
        last: list[Outcome] = []

        def fails(seed: int) -> bool:
            last[:] = [run(test.tape_of(seed))]
            effects.append(last[0].effects)
            return last[0].error is not None

        seeds = test.seeds()
        found = first_failing(fails, seeds, jobs=self.jobs, report=self._terminal.searching)
        if found is not None and (not last or last[0].seed != found):
            outcome = run(test.tape_of(found))
            if outcome.error is None:
                raise RuntimeError(
                    f"seed {found} failed in a process of its own, and passes here: something"
                    " in the run does not come from the seed"
                )
            return outcome
        if not last and self.trace is not None:
            return run(test.tape_of(seeds[-1]))  # type: ignore[no-any-return]
        return last[0] if last else None

    def add_to(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Put the report of the run beneath the traceback."""
        text = item.stash.get(report_key, None)
        if text is None or report.when != "call":
            return
        found: Any = report.longrepr
        if item.stash.get(outside_key, False) and hasattr(found, "reprtraceback"):
            # No line of the program raised it: those of the simulator would only be in the way.
            last = found.reprtraceback.reprentries[-1:]
            for entry in last:
                entry.lines = [line for line in entry.lines if line.startswith("E")]
                entry.reprfuncargs = entry.reprfileloc = None
            found.reprtraceback.reprentries[:] = last
        if hasattr(found, "addsection"):
            found.addsection("simulation", text)
        else:
            report.sections.append(("simulation", text))

    def _compare(self, name: str, test: SimTest, run: Any) -> None:
        """Run the first seed of a test that passed twice, and keep where the two runs differ."""
        seeds = test.seeds()
        if self.replay is not None or len(seeds) < 2:
            return
        digests = {run(test.tape_of(seeds[0]), digest=True).digest for _ in range(2)}
        if len(digests) > 1:
            found = first_difference(
                lambda tape, trace: run(tape, trace=trace), lambda: test.tape_of(seeds[0])
            )
            self._remarks.append(f"{name}: {found or 'two runs of seed 0 differ, now and then'}")

    def _count_effects(self, name: str, runs: Sequence[dict[str, int]]) -> None:
        """Keep the faults that did nothing in any run, of those that half of the runs had."""
        names = Counter(effect for effects in runs for effect in effects)
        self._remarks += [
            f"{name}: did nothing in {count:,} runs: {effect}"
            for effect, count in names.items()
            if 2 * count >= len(runs) and not any(effects.get(effect) for effects in runs)
        ]

    def summary(self) -> Iterator[str]:
        """Return what is to be said of tests that passed: idle faults, runs that differ."""
        for text in self._remarks:
            yield f"aiopoll.sim: {text}"


class Left(Exception):
    """pytest.fail and pytest.skip raise no Exception: it would end the loop of the test's host."""

    def __init__(self, outcome: BaseException) -> None:
        self.outcome = outcome


def _catching(program: Callable[..., Any]) -> Callable[..., Any]:
    async def caught(*args: Any, **fixtures: Any) -> Any:
        try:
            return await program(*args, **fixtures)
        except _OUTCOMES as error:
            raise Left(error) from None

    return caught


class _Terminal:
    """A line of progress behind what pytest has written; only on a terminal."""

    def __init__(self, config: pytest.Config) -> None:
        reporter: Any = config.pluginmanager.getplugin("terminalreporter")
        is_terminal = reporter is not None and reporter.isatty and config.option.verbose >= 0
        self._writer: Any = reporter._tw if is_terminal else None
        self._capture: Any = config.pluginmanager.getplugin("capturemanager")
        self._next = 0.0

    def __enter__(self) -> None:
        # Most tests are done within a second: a line for those would only flicker.
        self._next = time.perf_counter() + 1.0

    def __exit__(self, *error: object) -> None:
        self._show("")

    def searching(self, progress: Progress) -> None:
        if self._is_due():
            self._show(
                f" {progress.done:,} of {progress.total:,} seeds, {progress.rate:,.0f} a second"
            )

    def shrinking(self, shrinker: Shrinker[Outcome]) -> None:
        if self._is_due():
            count = len(shrinker.deviations)
            self._show(f" shrinking: {count:,} choices after {shrinker.runs:,} runs")

    def _is_due(self) -> bool:
        now = time.perf_counter()
        if self._writer is None or now < self._next:
            return False
        self._next = now + REPORT_SECONDS
        return True

    def _show(self, text: str) -> None:
        if self._writer is None:
            return
        room = self._writer.fullwidth - self._writer.width_of_current_line - 1
        is_captured = self._capture is not None
        with self._capture.global_and_fixture_disabled() if is_captured else nullcontext():
            # The cursor stays where pytest left it, and the rest of the line is replaced.
            self._writer._file.write(f"\x1b7\x1b[K{text[: max(0, room)]}\x1b8")
            self._writer.flush()
