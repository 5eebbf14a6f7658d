"""Every order of a small test, up to a number of preemptions.

Facts: most bugs of order need few choices that are not the plain ones (Musuvathi and Qadeer, 2007):
two find nearly all. With a bound, the number of runs is a polynomial in the length of a run.

Rule: depth first. A run follows a prefix of choices and takes the plain order from there on; then
the last choice that has another alternative, within the bound, is changed. Only choices between
tasks, sockets, timers and hosts are searched: delays are the shortest, and no fault is drawn.

Left out: pruning of orders that are alike (partial order reduction).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .run import Outcome, Program, run_once
from .tape import Key, Plain, Tape


class Prefix(Plain):
    """The choices of a list, then the plain order; keeps how many alternatives each one had."""

    name = "explore"

    def __init__(self, prefix: list[int]) -> None:
        self.prefix = prefix
        self.taken: list[int] = []
        self.alternatives: list[int] = []

    def pick(self, key: Key, alternatives: int, keys: Callable[[], Sequence[object]]) -> int:
        index = len(self.taken)
        value = self.prefix[index] if index < len(self.prefix) else 0
        self.taken.append(value)
        self.alternatives.append(alternatives)
        return value


@dataclass(frozen=True)
class Exploration:
    """The result of a search: how many runs it took, and the first that failed, or None."""

    runs: int
    failure: Outcome | None = None


def following(strategy: Prefix, preemptions: int) -> list[int] | None:
    """Return the prefix after that of `strategy`, within the bound; None after the last."""
    taken = strategy.taken
    used = sum(map(bool, taken))
    for index in range(len(taken) - 1, -1, -1):
        value = taken[index]
        used -= bool(value)
        if used < preemptions and value + 1 < strategy.alternatives[index]:
            return [*taken[:index], value + 1]
    return None


def explore(
    program: Program,
    *,
    preemptions: int = 2,
    limit: int = 100_000,
    time_limit: float | None = None,
) -> Exploration:
    """Run `program` in every order with up to `preemptions` choices that are not the plain one.

    Ends at the first run that fails. Raises RuntimeError if there are more than `limit` runs: a
    search that was cut short proves nothing.
    """
    prefix: list[int] | None = []
    runs = 0
    while prefix is not None:
        if runs == limit:
            raise RuntimeError(f"more than {limit} orders: bound preemptions, or raise the limit")
        runs += 1
        strategy = Prefix(prefix)
        outcome = run_once(program, Tape(strategy), time_limit=time_limit)
        if outcome.failed:
            return Exploration(runs, outcome)
        prefix = following(strategy, preemptions)
    return Exploration(runs)
