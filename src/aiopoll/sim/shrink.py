"""Fewer deviations from the plain order that still fail: the few that a failure needs.

Facts: a failing run has thousands of deviations, and most bugs need two or three of them. A run
takes 5 to 100 ms, so some hundreds of runs are what a person waits for. Taking a deviation away can
change all that follows it; what comes before it stays.

Rule: a smaller tape is kept if it fails with the same error at the same place (failure.py), and
only what the run used of it counts. The order is that of what pays most:

1. nothing but the plain order;
2. whole families: all draws of a kind ("delay"), then all draws of a label ("n2>n0 delay");
3. random halves, as long as they fail: for failures that many deviations lead to;
4. blocks of deviations from the last to the first, of half the tape and ever smaller ones (ddmin
   without its subsets), down to one by one;
5. one deviation less while later draws move up: a packet that is not lost is not sent again, and
   the fifth on its link becomes the fourth;
6. lower values: 1, halves, then round ones;
7. all of it again, until nothing changes or the runs are used up.

At the end the result runs once more. A run that is another at its second time is no evidence: then
the last tape that is the same twice is the result.

Left out: other seeds that fail with fewer deviations, and values that grow while others go.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from .failure import Failure, failure_of
from .tape import Deviation, Key, Tape, replay_of

RUNS_MAX = 400
_HALVES_MAX = 8
_SHIFTED_MAX = 30
_CHECKS_MAX = 5


class Failed(Protocol):
    """What a run leaves, as far as shrinking looks at it."""

    @property
    def tape(self) -> Tape: ...
    @property
    def error(self) -> BaseException | None: ...
    @property
    def digest(self) -> int: ...


O = TypeVar("O", bound=Failed)  # noqa: E741


def kind_of(label: str) -> str:
    """Return what a label has in common with those of other hosts: "n2>n0 delay" is a "delay"."""
    return label.partition(" ")[2] or label


def size_of(deviations: Iterable[Deviation]) -> tuple[int, int]:
    """Return what shrinking makes smaller: how many deviations, then how large their values."""
    values = [entry.value for entry in deviations]
    return len(values), sum(values)


class Shrinker(Generic[O]):
    """Looks for a smaller tape that fails like `outcome`, with at most `runs_max` runs.

    `best` is the smallest so far. `progress` is called after each run.
    """

    def __init__(
        self,
        run: Callable[[Tape], O],
        outcome: O,
        *,
        runs_max: int = RUNS_MAX,
        progress: Callable[[Shrinker[O]], None] | None = None,
    ) -> None:
        if outcome.error is None:
            raise ValueError("a run that did not fail cannot be shrunk")
        self.best: O = outcome
        # A tape makes the list anew each time that it is asked.
        self.deviations: list[Deviation] = outcome.tape.deviations
        self.runs: int = 0
        self.runs_max: int = runs_max
        self.is_deterministic: bool = True
        self.failure: Failure = failure_of(outcome.error)
        self._run = run
        self._seed = outcome.tape.seed
        self._progress = progress
        self._kept: list[O] = [outcome]
        self._tried: set[frozenset[tuple[Key, int]]] = set()
        self._random = random.Random(0)

    def shrink(self) -> O:
        """Return the outcome with the smallest tape that was found."""
        if self._try([]):
            return self._checked()
        while self.runs < self.runs_max:
            before = size_of(self.deviations)
            self._remove_families()
            self._remove_halves()
            self._remove_blocks([{entry.key} for entry in self.deviations])
            self._remove_with_shift()
            self._lower_values()
            if size_of(self.deviations) == before:
                break
        return self._checked()

    # One attempt

    def _outcome(self, deviations: Sequence[Deviation]) -> O:
        self.runs += 1
        outcome = self._run(replay_of(deviations, seed=self._seed))
        if self._progress is not None:
            self._progress(self)
        return outcome

    def _fails_alike(self, outcome: O) -> bool:
        return outcome.error is not None and failure_of(outcome.error) == self.failure

    def _try(self, deviations: Sequence[Deviation]) -> bool:
        """Run with `deviations`; keeps the outcome if it is smaller and fails alike."""
        tried = frozenset((entry.key, entry.value) for entry in deviations)
        if self.runs >= self.runs_max or tried in self._tried:
            return False
        self._tried.add(tried)
        outcome = self._outcome(deviations)
        if not self._fails_alike(outcome):
            return False
        found = outcome.tape.deviations
        if size_of(found) >= size_of(self.deviations):
            return False
        self.best, self.deviations = outcome, found
        self._kept.append(outcome)
        return True

    def _try_without(self, keys: set[Key]) -> bool:
        rest = [entry for entry in self.deviations if entry.key not in keys]
        return len(rest) < len(self.deviations) and self._try(rest)

    # Fewer deviations

    def _remove_families(self) -> None:
        for name in (kind_of, str):
            families: dict[str, set[Key]] = {}
            counts: Counter[str] = Counter()
            for entry in self.deviations:
                family = name(entry.label)
                families.setdefault(family, set()).add(entry.key)
                counts[family] += 1
            # The largest last: blocks are removed from the end.
            ordered = [families[family] for family, _ in reversed(counts.most_common())]
            if len(ordered) > 1:
                self._remove_blocks(ordered)

    def _remove_halves(self) -> None:
        misses = 0
        while len(self.deviations) > 8 and misses < _HALVES_MAX and self.runs < self.runs_max:
            half = [entry for entry in self.deviations if self._random.random() < 0.5]
            misses = 0 if self._try(half) else misses + 1

    def _remove_blocks(self, groups: list[set[Key]]) -> None:
        """Remove blocks of neighbours, from the last to the first, and ever smaller ones."""
        size = max(1, len(groups) // 2)
        while groups and self.runs < self.runs_max:
            removed = False
            end = len(groups)
            while end > 0 and self.runs < self.runs_max:
                start = max(0, end - size)
                removed |= self._try_without(set().union(*groups[start:end]))
                end = start
            left = {entry.key for entry in self.deviations}
            groups = [group for group in groups if group & left]
            if size == 1 and not removed:
                break
            size = max(1, min(size, len(groups)) // 2)

    def _remove_with_shift(self) -> None:
        if len(self.deviations) > _SHIFTED_MAX:
            return
        index = len(self.deviations) - 1
        while index >= 0:
            entries = self.deviations
            later = list(dict.fromkeys(entry.label for entry in entries[index + 1 :]))
            for labels in [[label] for label in later] + [later] * (len(later) > 1):
                moved = [
                    replace(entry, ordinal=entry.ordinal - 1) if entry.label in labels else entry
                    for entry in entries[index + 1 :]
                ]
                if self._try([*entries[:index], *moved]):
                    break
            index = min(index, len(self.deviations)) - 1

    # Lower values

    def _lower_values(self) -> None:
        for entry in list(self.deviations):
            if entry.value > 1 and not self._try_value(entry.key, 1):
                self._halve(entry.key)

    def _try_value(self, key: Key, value: int) -> bool:
        found = next((entry for entry in self.deviations if entry.key == key), None)
        if found is None or value >= found.value:
            return False
        return self._try(
            [
                replace(entry, value=value) if entry.key == key else entry
                for entry in self.deviations
            ]
        )

    def _halve(self, key: Key) -> None:
        """Lower one value: by halves, then to the middle of what failed and what did not."""
        low = 1
        for _ in range(64):
            value = next((entry.value for entry in self.deviations if entry.key == key), 0)
            # Within a tenth is near enough: the words round it anyway.
            if value - low <= max(1, value // 10) or self.runs >= self.runs_max:
                break
            middle = (value + low) // 2 if low > 1 else value // 2
            if not self._try_value(key, middle):
                low = middle
        if value := next((entry.value for entry in self.deviations if entry.key == key), 0):
            for digits in (1, 2):
                unit = 10 ** max(0, len(str(value)) - digits)
                rounded = value // unit * unit
                if rounded > low and self._try_value(key, rounded):
                    break

    # The result

    def _checked(self) -> O:
        for outcome in list(reversed(self._kept))[:_CHECKS_MAX]:
            again = self._outcome(outcome.tape.deviations)
            if self._fails_alike(again) and again.digest == outcome.digest:
                self.best = again
                return again
            self.is_deterministic = False
        self.best = self._kept[0]
        return self.best


def shrink(run: Callable[[Tape], O], outcome: O, *, runs: int = RUNS_MAX) -> O:
    """Return the outcome of a smaller tape that fails like `outcome`, or `outcome` itself.

    `run` runs the program on a tape. ValueError if `outcome` is no failure.
    """
    return Shrinker(run, outcome, runs_max=runs).shrink()
