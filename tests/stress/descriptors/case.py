"""One operation, and the actions on it."""

from dataclasses import dataclass

from .guests import Guest
from .operation import Operation
from .owners import Take, Way, take
from .strangers import Stranger


@dataclass(eq=False)
class Case:
    """One operation, and the actions on it."""

    operation: Operation
    way: Way | None
    """The way in which the owner releases the file; None if it does not."""
    stranger: Stranger | None = None
    take: Take = take
    guest_kind: type[Guest] | None = None
    spoken_first: bool = False
    """Whether the event is there before the loss, but the loop does not know of it."""
    by_thread: bool = False
    lingers: bool = False
    """Whether the operation is ended long after its number has gone to still others."""

    number: int = -1
    duplicate: int = -1
    guest: Guest | None = None
    taken: bool = False
    broken: bool = False
    """Whether a check failed on it."""
    abandoned: bool = False
    """Whether no task waits for it any more."""

    def __str__(self) -> str:
        parts = [self.operation.kind, self.way.name if self.way else "kept"]
        if self.stranger is not None:
            parts.append(("blocking " if self.stranger.blocking else "") + self.stranger.kind)
        if self.guest_kind is not None:
            parts.append(f"guest {self.guest_kind.__name__}")
        flags = ("spoken_first", "by_thread", "lingers")
        return ", ".join(parts + [flag for flag in flags if getattr(self, flag)])
