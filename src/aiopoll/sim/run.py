"""Running a program in a world: once, by one tape, to an outcome.

Rule: a run never raises what its program raised: it returns an Outcome, which holds the error, the
tape and what was waiting. `run` and `test` raise from it.
Cost: the collector of cycles is off during a run, and runs at fixed steps: else finalizers would
run at times that depend on what the process did before.
Left out: what a failure looks like (report.py), and making it plainer (shrink.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ..kernel.sched import Deadlock
from ..kernel.trace import TraceDigest
from ..kernel.trace import waiting as waiting_threads
from . import inside, names
from .interrupts import held
from .sched import Livelock
from .tape import Deviation, Tape, tape_of
from .waiting import describe_tasks
from .world import Event, World, quiet_finalizers

if TYPE_CHECKING:
    from ..kernel.trace import TraceFunction
    from .chaos import Chaos

T = TypeVar("T")

Program = Callable[[World], Coroutine[Any, Any, Any]]


@dataclass
class Outcome:
    """What a run came to. `error` is None if it passed."""

    seed: int
    tape: Tape
    result: Any = None
    error: BaseException | None = None
    digest: int = 0
    events: list[Event] = field(default_factory=list)
    elapsed_ns: int = 0
    steps: int = 0
    waiting: list[str] = field(default_factory=list)
    effects: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.error is not None

    @property
    def deviations(self) -> list[Deviation]:
        return self.tape.deviations


def run_once(
    program: Program,
    tape: Tape,
    *,
    faults: Chaos | None = None,
    time_limit: float | None = None,
    recording: bool = False,
    trace: TraceFunction | None = None,
    digest: bool = False,
    name: str = "test",
    prepare: Callable[[World], None] | None = None,
) -> Outcome:
    """Run `program` by `tape` in a fresh world; returns its outcome.

    `time_limit` is in seconds of the world's clock. `recording` keeps the events for people.
    `trace` gets the parts of every system call, wake-up and step (kernel/trace.py); `digest` makes
    a number of them all. `prepare` is called with the world before it runs.
    """
    summing = TraceDigest()
    if digest and trace is None:
        trace = summing
    outcome = Outcome(seed=tape.seed, tape=tape)

    def run() -> None:
        world = World(tape, faults=faults, time_limit=time_limit, recording=recording, trace=trace)
        _collector.last_world = weakref.ref(world)
        interrupted(world.sched)
        if prepare is not None:
            prepare(world)
        _run(world, program, name, outcome)

    # In this order: what holds interrupts back holds the scheduler too.
    with _collected(), held() as interrupted:
        run()
    outcome.digest = summing.value
    return outcome


def _run(world: World, program: Program, name: str, outcome: Outcome) -> None:
    """Run `program` in `world`, and note in `outcome` what came of it."""

    async def main() -> Any:
        return await program(world)

    def before_end() -> None:
        outcome.waiting = waiting_tasks(world)

    world.before_end = before_end
    outcome.events = world.events
    try:
        # A test ends with its world; a program ends its tasks first.
        outcome.result = world.run(main, name=name, graceful=name != "test")
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        outcome.error = exc
    outcome.elapsed_ns = world.sched.clock.now_ns
    outcome.steps = world.sched.steps
    outcome.effects = {**world.network.effects, **world.effects}
    for host in world.hosts.values():
        if host.disk is not None:
            for effect, number in host.disk.effects.items():
                outcome.effects[f"{host.name} {effect}"] = number
    # Else the tape, which is kept, would keep the world.
    elapsed_ns = outcome.elapsed_ns
    outcome.tape.now_ns = lambda: elapsed_ns


class _Collector:
    """What is known of the collector of cycles between runs."""

    def __init__(self) -> None:
        # How many searches go on: what there was before the first one is frozen.
        self.searches = 0
        self.last_world: weakref.ref[World] | None = None

    def forgotten(self) -> bool:
        """Return whether the world of the last run is still there, as after a failure."""
        return self.last_world is not None and self.last_world() is not None


_collector = _Collector()


@contextlib.contextmanager
def searching() -> Iterator[None]:
    """Make many runs cheap: stand-ins stay, and collections see what the runs have made alone."""
    if not _collector.searches:
        gc.collect()
        gc.freeze()
    _collector.searches += 1
    try:
        with names.kept():
            yield
    finally:
        _collector.searches -= 1
        if not _collector.searches:
            gc.unfreeze()


@contextlib.contextmanager
def _collected() -> Iterator[None]:
    """Collect cycles at the end of the block, of what was made in it, and not before.

    What is there already is frozen meanwhile: a collection costs what the world has made. Whether
    the program has frozen objects itself is not asked, for that counts them all.
    """
    collecting = gc.isenabled()
    gc.disable()
    if not _collector.searches:
        if _collector.forgotten():
            # Frozen, it would stay for ever.
            gc.collect()
        gc.freeze()
    try:
        yield
        with quiet_finalizers():
            gc.collect()
    finally:
        if not _collector.searches:
            gc.unfreeze()
        if collecting:
            gc.enable()


def waiting_tasks(world: World) -> list[str]:
    """Return the lines of each task and thread that has not ended, with where it stands."""
    lines: list[str] = []
    for host in world.hosts.values():
        for loop in host.loops:
            tasks = sorted(asyncio.all_tasks(loop), key=hash)
            # The sources that are shown are files of the real machine.
            with inside.outside():
                lines += describe_tasks(host.name, tasks)
    # The main task of the scheduler is the caller of `run`.
    return lines + [line for line in waiting_threads(world.sched) if not line.startswith("main ")]


def run(
    main: Coroutine[Any, Any, T] | Callable[[World], Coroutine[Any, Any, T]],
    *,
    seed: int,
    faults: Chaos | None = None,
    time_limit: float | None = None,
) -> T:
    """Run a program in a world of one host, by the tape of `seed`; returns its result.

    `main` is a coroutine, or a coroutine function, which gets the World. Raises what it raises;
    sched.Deadlock if it waits for what cannot happen; Livelock if it spins; TimeoutError if the
    world's clock passes `time_limit` seconds.
    """
    if callable(main):
        program: Program = main
    else:
        coroutine = main

        async def program(world: World) -> Any:
            return await coroutine

    outcome = run_once(program, tape_of(seed), faults=faults, time_limit=time_limit, name="main")
    if outcome.error is not None:
        outcome.error.add_note(f"seed {seed}")
        if isinstance(outcome.error, (Deadlock, Livelock, TimeoutError)):
            outcome.error.add_note("\n".join(["what waits:", *outcome.waiting]))
        raise outcome.error
    result: T = outcome.result
    return result
