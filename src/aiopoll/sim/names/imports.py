"""Imports: what a process does once, in whichever run comes first, is no part of a run.

Facts: the import system finds and reads a module's file the first time, and never again. Its reads
would be in the trace of the first run alone, and use descriptors of the host.

So are the reads of linecache, which keeps the sources that tracebacks show.

Rule: finding a module and reading its code or source are done outside of the world, on the real
machine. The code of the module itself runs inside, as part of the program.
Left out: finders and loaders of other packages, which read by the ordinary names.
"""

from __future__ import annotations

import functools
import importlib.machinery
import linecache
from collections.abc import Callable, Iterable
from typing import Any

from ..inside import outside
from .dispatch import Replacement


def _real(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def on_the_machine(*args: Any, **kwargs: Any) -> Any:
        with outside():
            return function(*args, **kwargs)

    return on_the_machine


def _class_method(original: Any) -> Any:
    return classmethod(_real(original.__func__))


def replacements() -> Iterable[Replacement]:
    yield importlib.machinery.PathFinder, "find_spec", _class_method
    yield importlib.machinery.SourceFileLoader, "get_code", _real
    yield importlib.machinery.SourcelessFileLoader, "get_code", _real
    yield linecache, "updatecache", _real
    yield linecache, "checkcache", _real
