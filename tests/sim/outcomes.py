"""Outcomes and events of runs that never were, for reports and pages."""

from dataclasses import dataclass, field
from typing import Any

from aiopoll.sim.tape import Deviation, Plain, Tape


@dataclass
class Event:
    at_ns: int
    kind: str
    host: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    tape: Tape
    error: BaseException | None = None
    events: list[Event] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    seed: int = 17
    elapsed_ns: int = 12_400_000_000


def failed(message: str) -> BaseException:
    try:
        raise AssertionError(message)
    except AssertionError as error:
        return error


class KeptTape(Tape):
    """A tape with the deviations that it is given."""

    def __init__(self, kept: list[Deviation], seed: int = 17) -> None:
        super().__init__(Plain(), seed=seed)
        self.kept = kept

    @property
    def deviations(self) -> list[Deviation]:
        return self.kept
