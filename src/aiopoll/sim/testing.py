"""`sim.test`: a test that is run by many seeds, until one fails.

Facts: pytest collects a function by its name and passes fixtures by the names of its parameters. So
`test` makes a plain function of a program: without `world`, and with the other parameters.

Rule: tapes that the test keeps come first, whatever Python recorded them: each is one more order to
try. Seeds are tried in order from 0, so that a test fails by the same one everywhere. The first
failure ends the search, is made plain (shrink.py), and is raised as the program raised it, with the
report as a note. What a command line asks for is in `settings`, which pytest_plugin.py fills.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

from .run import Outcome, run_once, searching
from .tape import SCHEDULES, Tape, tape_of
from .tapefile import load

if TYPE_CHECKING:
    from .chaos import Chaos
    from .world import World

Program = Callable[..., Coroutine[Any, Any, Any]]

TIME_LIMIT = 3600.0
"""Seconds of the world's clock after which a test fails by TimeoutError, unless it says."""


@dataclass(frozen=True)
class Options:
    """How a test is run: what its decorator says."""

    seeds: int = 100
    faults: Chaos | None = None
    time_limit: float | None = TIME_LIMIT
    schedule: str = "mixed"
    tapes: tuple[str | os.PathLike[str], ...] = ()


@dataclass
class Settings:
    """What the command line says; None leaves the choice to the test.

    `search` replaces the search for a failing seed: it gets the test, its fixtures and options.
    """

    seed: int | None = None
    seeds: int | None = None
    search: Callable[[SimTest, dict[str, Any]], Outcome | None] | None = None
    raise_from: Callable[[SimTest, dict[str, Any], Outcome], None] | None = None


settings: Settings = Settings()


class SimTest:
    """A program with its options; calling it searches for a seed that fails."""

    def __init__(self, program: Program, options: Options) -> None:
        self.program = program
        self.options = options

    def seeds(self) -> range:
        """Return the seeds that are tried."""
        if settings.seed is not None:
            return range(settings.seed, settings.seed + 1)
        return range(self.options.seeds if settings.seeds is None else settings.seeds)

    def run(self, tape: Tape, fixtures: dict[str, Any], **more: Any) -> Outcome:
        """Run the program once, by `tape`; `more` goes to run_once."""

        def program(world: World) -> Coroutine[Any, Any, Any]:
            return self.program(world, **fixtures)

        options = self.options
        return run_once(program, tape, faults=options.faults, time_limit=options.time_limit, **more)

    def tape_of(self, seed: int) -> Tape:
        """Return a fresh tape of `seed`."""
        return tape_of(seed, self.options.schedule)

    def kept_tapes(self) -> Iterator[Tape]:
        """Return the tapes that the test keeps; none where one seed is asked for.

        TapeError, OSError.
        """
        if settings.seed is None:
            folder = Path(inspect.getfile(self.program)).parent
            for path in self.options.tapes:
                yield load(folder / path, any_python=True).tape()

    def search(self, fixtures: dict[str, Any]) -> Outcome | None:
        """Return the outcome of the first tape or seed that fails, or None."""
        if settings.search is not None:
            return settings.search(self, fixtures)
        for tape in self.kept_tapes():
            outcome = self.run(tape, fixtures)
            if outcome.failed:
                return outcome
        for seed in self.seeds():
            outcome = self.run(self.tape_of(seed), fixtures)
            if outcome.failed:
                return outcome
        return None

    def check(self, fixtures: dict[str, Any]) -> None:
        """Raise what the first failing seed raises."""
        with searching():
            self._check(fixtures)

    def _check(self, fixtures: dict[str, Any]) -> None:
        outcome = self.search(fixtures)
        if outcome is None:
            return
        if settings.raise_from is not None:
            settings.raise_from(self, fixtures, outcome)
        assert outcome.error is not None
        outcome.error.add_note(f"seed {outcome.seed}")
        raise outcome.error


class PlainTest(Protocol):
    """What `test` makes: a function for pytest, with the program and how it is run."""

    __name__: str
    program: Program
    options: Options
    sim_test: SimTest

    def __call__(self, **fixtures: Any) -> None:
        """Raise what the first failing tape or seed raises."""


@overload
def test(function: Program, /) -> PlainTest: ...


@overload
def test(
    *,
    seeds: int = ...,
    faults: Chaos | None = ...,
    time_limit: float | None = ...,
    schedule: str = ...,
    tapes: Sequence[str | os.PathLike[str]] = ...,
) -> Callable[[Program], PlainTest]: ...


def test(
    function: Program | None = None,
    /,
    *,
    seeds: int = 100,
    faults: Chaos | None = None,
    time_limit: float | None = TIME_LIMIT,
    schedule: str = "mixed",
    tapes: Sequence[str | os.PathLike[str]] = (),
) -> PlainTest | Callable[[Program], PlainTest]:
    """Make a test of a coroutine function that takes a World; pytest collects it as it is.

    It runs by the tapes of `seeds` seeds, until one fails. `time_limit` is in seconds of the
    world's clock. `schedule` is uniform, pct or mixed. `tapes` are files of earlier failures, run
    before the seeds; paths begin at the folder of the test's file. TypeError unless it is a
    coroutine function whose first parameter is the world; ValueError for an unknown schedule or no
    seeds.
    """
    if not isinstance(seeds, int) or seeds < 1:
        raise ValueError(f"a test runs at least one seed, not {seeds!r}")
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f"time_limit is above zero seconds, or None, not {time_limit}")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is one of {', '.join(SCHEDULES)}, not {schedule!r}")
    if isinstance(tapes, (str, os.PathLike)):
        raise TypeError(f"tapes are a sequence of paths: [{tapes!r}]")
    options = Options(seeds, faults, time_limit, schedule, tuple(tapes))

    def decorate(program: Program) -> PlainTest:
        if not inspect.iscoroutinefunction(program):
            raise TypeError(f"{program!r} is not a coroutine function: async def name(world)")
        parameters = [*inspect.signature(program).parameters.values()]
        if not parameters:
            raise TypeError(f"{program.__qualname__} takes no world: async def name(world)")
        simulated = SimTest(program, options)

        @functools.wraps(program)
        def checked(**fixtures: Any) -> None:
            simulated.check(fixtures)

        attributes: Any = checked
        attributes.__signature__ = inspect.Signature(parameters[1:])
        # Else inspect finds the coroutine function, and runners of those take the test.
        del attributes.__wrapped__
        attributes.sim_test = simulated
        attributes.program = program
        attributes.options = options
        made: PlainTest = attributes
        return made

    return decorate if function is None else decorate(function)


test.__test__ = False  # type: ignore[attr-defined]
