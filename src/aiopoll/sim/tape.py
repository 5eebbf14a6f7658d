"""The choice tape: every draw of a run, by label, and what decided it.

Facts: a run is its program, its Python and its draws. A draw has a label that people can read, such
as "n2>n0 delay", and an ordinal: how many draws of that label came before. 0 is always the plain
order: the first in line, the shortest delay, no fault.

Rule: a tape keeps the draws that are not 0, its deviations, by label and ordinal. Taking one away
leaves the others with their meaning: the fifth packet from n2 to n0 stays the fifth. So a failing
run can be made plainer bit by bit (shrink.py), and what is left can be read.

Cost: a dictionary look-up and a random number for each draw.
Left out: the program's own random numbers. They come from the world's seed, not from the tape, and
a host has a stream of its own (names/entropy.py).
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

Key = tuple[str, int]
"""A draw: its label, and how many draws of that label came before."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """A draw whose value is not the plain one."""

    label: str
    ordinal: int
    value: int
    at_ns: int = 0

    @property
    def key(self) -> Key:
        return self.label, self.ordinal


class Strategy(Protocol):
    """Decides the value of a draw."""

    name: str

    def choose(self, key: Key, alternatives: int) -> int:
        """Return a value in range(alternatives)."""

    def chance(self, key: Key, probability: float) -> bool:
        """Return True with `probability`."""

    def pick(self, key: Key, alternatives: int, keys: Callable[[], Sequence[object]]) -> int:
        """Return the index of the task that runs."""


class Plain:
    """The plain order in every draw."""

    name = "plain"

    def choose(self, key: Key, alternatives: int) -> int:
        return 0

    def chance(self, key: Key, probability: float) -> bool:
        return False

    def pick(self, key: Key, alternatives: int, keys: Callable[[], Sequence[object]]) -> int:
        return 0


class Uniform:
    """Independent draws from a seed.

    `restless` is the probability that a choice between tasks is drawn at all. Bugs of order differ
    in how much disorder shows them, so each seed has a degree of its own.
    """

    name = "uniform"

    def __init__(self, seed: int) -> None:
        self.random: random.Random = random.Random(f"tape {seed}")
        self.restless: float = self.random.choice((0.02, 0.1, 0.3, 1.0))

    def choose(self, key: Key, alternatives: int) -> int:
        return int(self.random.random() * alternatives)

    def chance(self, key: Key, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, key: Key, alternatives: int, keys: Callable[[], Sequence[object]]) -> int:
        draw = self.random.random()
        if draw >= self.restless:
            return 0
        return int(draw / self.restless * alternatives)


class Pct(Uniform):
    """Probabilistic concurrency testing: tasks have priorities, which change at a few steps.

    A bug that needs d steps in order is found with a probability of at least 1 / (n k^(d-1)), for
    n tasks and k steps (Burckhardt et al., 2010). Draws that are not between tasks are uniform.
    """

    name = "pct"

    def __init__(self, seed: int, *, depth: int = 3, steps: int = 1000) -> None:
        super().__init__(seed)
        self._priorities: dict[object, float] = {}
        self._changes = {self.random.randrange(steps) for _ in range(depth - 1)}
        self._step = 0

    def pick(self, key: Key, alternatives: int, keys: Callable[[], Sequence[object]]) -> int:
        candidates = keys()
        if not candidates:
            return self.choose(key, alternatives)
        priorities = self._priorities
        for candidate in candidates:
            if candidate not in priorities:
                priorities[candidate] = 1 + self.random.random()
        chosen = max(range(alternatives), key=lambda index: priorities[candidates[index]])
        self._step += 1
        if self._step in self._changes:
            # Below all that have not been lowered; the later change is the lower one.
            priorities[candidates[chosen]] = -self._step
            chosen = max(range(alternatives), key=lambda index: priorities[candidates[index]])
        return chosen


class Replay:
    """The deviations of a tape, and the plain order in every other draw."""

    name = "replay"

    def __init__(self, deviations: Iterable[Deviation]) -> None:
        self.values: dict[Key, int] = {entry.key: entry.value for entry in deviations}

    def choose(self, key: Key, alternatives: int) -> int:
        value = self.values.get(key, 0)
        # A tape that was made plainer can meet a choice with fewer alternatives.
        return value if value < alternatives else alternatives - 1

    def chance(self, key: Key, probability: float) -> bool:
        return bool(self.values.get(key, 0))

    def pick(self, key: Key, alternatives: int, keys: Callable[[], Sequence[object]]) -> int:
        return self.choose(key, alternatives)


class Tape:
    """The draws of one run, decided by `strategy` and kept as `deviations`."""

    def __init__(self, strategy: Strategy, *, seed: int = 0) -> None:
        self.strategy = strategy
        self.seed = seed
        # Deviations, four numbers each: a run can have millions. Labels are numbered.
        self._kept: array[int] = array("q")
        self._labels: dict[str, int] = {}
        self.draws: int = 0
        self.now_ns: Callable[[], int] = lambda: 0
        self.counts: dict[str, int] = {}

    def _key(self, label: str) -> Key:
        ordinal = self.counts.get(label, 0)
        self.counts[label] = ordinal + 1
        self.draws += 1
        return label, ordinal

    def _keep(self, key: Key, value: int) -> None:
        label, ordinal = key
        number = self._labels.setdefault(label, len(self._labels))
        self._kept.extend((number, ordinal, value, self.now_ns()))

    @property
    def deviations(self) -> list[Deviation]:
        """Return the deviations of the run so far, in the order of their draws."""
        kept, labels = self._kept, [*self._labels]
        return [
            Deviation(labels[kept[at]], kept[at + 1], kept[at + 2], kept[at + 3])
            for at in range(0, len(kept), 4)
        ]

    def choose(self, label: str, alternatives: int) -> int:
        """Draw one of `alternatives`; 0 is the plain one."""
        key = self._key(label)
        if alternatives <= 1:
            return 0
        value = self.strategy.choose(key, alternatives)
        if value:
            self._keep(key, value)
        return value

    def chance(self, label: str, probability: float) -> bool:
        """Draw True with `probability`; False is the plain value."""
        key = self._key(label)
        if probability <= 0.0:
            return False
        value = self.strategy.chance(key, probability)
        if value:
            self._keep(key, 1)
        return value

    def between(self, label: str, low: int, high: int) -> int:
        """Draw a whole number from `low` to `high`, both included; `low` is the plain one."""
        return low + self.choose(label, high - low + 1)

    def pick(
        self, label: str, alternatives: int, keys: Callable[[], Sequence[object]] = tuple
    ) -> int:
        """Draw which of `alternatives` tasks runs; `keys` names them for strategies that ask."""
        key = self._key(label)
        if alternatives <= 1:
            return 0
        value = self.strategy.pick(key, alternatives, keys)
        if value:
            self._keep(key, value)
        return value


SCHEDULES = ("uniform", "pct", "mixed")


def tape_of(seed: int, schedule: str = "mixed") -> Tape:
    """Return the tape of a seed. ValueError for an unknown schedule.

    "mixed" takes PCT for every third seed: the two find different bugs.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is one of {', '.join(SCHEDULES)}, not {schedule!r}")
    if schedule == "pct" or (schedule == "mixed" and seed % 3 == 2):
        steps = 10 ** (1 + seed // 3 % 4)
        return Tape(Pct(seed, depth=2 + seed // 12 % 3, steps=steps), seed=seed)
    return Tape(Uniform(seed), seed=seed)


def replay_of(deviations: Iterable[Deviation], *, seed: int) -> Tape:
    """Return a tape that repeats the deviations of another; `seed` is the program's."""
    return Tape(Replay(deviations), seed=seed)
