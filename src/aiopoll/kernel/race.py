"""No Linux file: a search through the interleavings of a scenario.

Facts: the running task changes only where it sleeps. In a preemptive kernel it also changes around
spin locks and at the entry of system calls. A run is therefore one list of choices, and can be
repeated.

Rule: depth first. A run follows a prefix of choices and takes the first alternative from there on;
then the last choice that has another alternative is changed. `bound` limits how many times a task
that could run on is interrupted (switches away from a sleeping task are free): most races need two.

Left out: reordering of memory accesses, and interrupts in the middle of a critical section that
disables them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .kernel import Kernel
from .sched import Choice


class ReplayChoice(Choice):
    """Follows `prefix`, then the first alternative; records the number of alternatives."""

    def __init__(self, prefix: list[int], bound: int) -> None:
        self.prefix = prefix
        self.bound = bound
        self.preemptions: int = 0
        self.taken: list[int] = []
        self.alternatives: list[int] = []

    def _choose(self, alternatives: int) -> int:
        if alternatives == 1:
            return 0
        index = len(self.taken)
        choice = self.prefix[index] if index < len(self.prefix) else 0
        self.taken.append(choice)
        self.alternatives.append(alternatives)
        return choice

    def pick(self, alternatives: int) -> int:
        return self._choose(alternatives)

    def preempt(self, alternatives: int) -> int:
        if self.preemptions >= self.bound:
            return 0
        choice = self._choose(alternatives)
        if choice:
            self.preemptions += 1
        return choice


@dataclass
class Exploration:
    """The result of a search: `runs` interleavings, the first failure and the choices to it."""

    runs: int
    failure: BaseException | None = None
    choices: list[int] | None = None


def explore(
    scenario: Callable[[Kernel], None], *, bound: int = 2, limit: int = 100_000
) -> Exploration:
    """Run `scenario` on a fresh kernel in every interleaving with up to `bound` preemptions.

    Ends at the first run that raises. Raises RuntimeError if there are more than `limit` runs:
    a search that was cut short proves nothing.
    """
    prefix: list[int] = []
    runs = 0
    while True:
        if runs == limit:
            raise RuntimeError(f"more than {limit} interleavings")
        runs += 1
        choice = ReplayChoice(prefix, bound)
        kernel = Kernel(choice=choice)
        try:
            scenario(kernel)
        except Exception as exc:
            kernel.sched.shutdown()
            return Exploration(runs, exc, choice.taken)
        kernel.halt()
        taken = choice.taken
        while taken and taken[-1] + 1 == choice.alternatives[len(taken) - 1]:
            taken.pop()
        if not taken:
            return Exploration(runs)
        taken[-1] += 1
        prefix = taken


def replay(scenario: Callable[[Kernel], None], choices: list[int], *, bound: int = 2) -> None:
    """Run one interleaving again, to look at it; raises what the scenario raises.

    `bound` is that of the search: it decides where there was a choice.
    """
    kernel = Kernel(choice=ReplayChoice(choices, bound))
    try:
        scenario(kernel)
    finally:
        kernel.sched.shutdown()
