"""The ordinary names, which mean the world's things inside a world.

Lives here: patching and stand-ins; a module for each group of names: clocks, entropy, sockets,
files, threads, signals, loops; and the escape hatch's lock, an audit hook for everything else.

May import: the kernel, and the modules of `sim` below the world (`inside`, `tape`).

Data comes from the program's calls, and goes to the kernel of the host whose code makes them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .dispatch import Replacement, Value
from .patching import Patches

if TYPE_CHECKING:
    from ..world import World

PARTS = (
    "imports",
    "clock",
    "entropy",
    "threads",
    "sockets",
    "polling",
    "signals",
    "files",
    "async_files",
    "loops",
    "escape",
)


def _parts() -> list[Any]:
    return [
        importlib.import_module(f"{__name__}.{name}")
        for name in PARTS
        if importlib.util.find_spec(f"{__name__}.{name}") is not None
    ]


def _replacements() -> Iterable[Replacement]:
    for part in _parts():
        yield from part.replacements()


def _late() -> Iterable[Replacement]:
    from . import async_files, loops

    yield from loops.late()
    yield from async_files.late()


def _values() -> Iterable[Value]:
    for part in _with_values:
        yield from part.values()


_with_values: list[Any] = []
# Parts that hold what belongs to a world: `end` lets it go.
_with_end: list[Any] = []


_known: list[Patches] = []


def _patches() -> Patches:
    """Return the patches of this process."""
    if not _known:
        from . import threads

        _with_values.extend(part for part in _parts() if hasattr(part, "values"))
        _with_end.extend(part for part in _parts() if hasattr(part, "end"))
        _known.append(Patches(_replacements(), _late, _values, threads.shared, threads.real))
    return _known[0]


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Leave the stand-ins in their places between the worlds of this block.

    Outside of a world they call the originals.
    """
    patches = _patches()
    patches.keep()
    try:
        yield
    finally:
        patches.let_go()


@contextlib.contextmanager
def installed(world: World) -> Iterator[None]:
    """Give the ordinary names the meaning of `world` while entered. RuntimeError if one runs."""
    from . import escape, threads

    patches = _patches()
    patches.install()
    try:
        with threads.registered(), escape.watched():
            yield
    finally:
        patches.restore()
        for part in _with_end:
            part.end()
