"""What makes two failures the same one, and where a failure is.

Facts: the same bug is met by other interleavings, with other numbers in the message. The type of
the error and the line of the program that raised it stay. An error of the simulator, such as an
invariant that does not hold, is raised at one line for all of them; only its name differs.

Rule: a failure is the type of its error and a place. The place is `error.place`, if the error has
one, else the innermost frame outside of this package and of the standard library. The
first failure of an exception group stands for the group.
"""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
_STANDARD = str(Path(sysconfig.get_path("stdlib")).resolve()) + os.sep
_SITE = ("site-packages", "dist-packages")


@dataclass(frozen=True, slots=True)
class Failure:
    """The type of an error and the place that raised it."""

    kind: str
    place: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.place}" if self.place else self.kind


def is_program(filename: str) -> bool:
    """Whether a source file is the program's, and not the simulator's nor asyncio's."""
    if filename.startswith("<"):
        return False
    path = os.path.realpath(filename)
    if path.startswith(_PACKAGE):
        return False
    return not path.startswith(_STANDARD) or any(name in Path(path).parts for name in _SITE)


def leaf_of(error: BaseException) -> BaseException:
    """Return the first error of an exception group, at any depth; another error itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def failure_of(error: BaseException) -> Failure:
    """Return what has to be the same for two errors to be the same failure."""
    error = leaf_of(error)
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    own = getattr(error, "place", None)
    return Failure(kind, own if isinstance(own, str) else place_of(error.__traceback__))


def place_of(traceback: TracebackType | None) -> str:
    """Return "file:line" of the innermost frame of the program, "" if there is none."""
    place = ""
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        if is_program(filename):
            place = f"{filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


def trimmed(error: BaseException) -> BaseException:
    """Return the error without the frames that lead to the program's first one."""
    traceback = error.__traceback__
    while traceback is not None and not is_program(traceback.tb_frame.f_code.co_filename):
        traceback = traceback.tb_next
    return error.with_traceback(traceback) if traceback is not None else error
