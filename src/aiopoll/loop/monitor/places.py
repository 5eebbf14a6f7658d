"""Where tasks were made: the line of the program, not that of asyncio or of this package."""

import asyncio
import os
import sys
import weakref
from types import CodeType
from typing import Any

Place = tuple[str, int, str]
"""A file, a line and the function that the line is in."""

OURS = os.path.normpath(os.path.join(os.path.abspath(__file__), "..", "..", "..")) + os.sep
"""The folder of this package."""
_LIBRARIES = (OURS, os.path.dirname(os.path.abspath(asyncio.events.__file__)) + os.sep)
_DEPTH_MAX = 20


class TaskPlaces:
    """The places of a loop's tasks, as long as the tasks live."""

    def __init__(self) -> None:
        self._places: weakref.WeakKeyDictionary[Any, tuple[CodeType, int | None]] = (
            weakref.WeakKeyDictionary()
        )

    def note(self, task: Any) -> None:
        """Notes where a task is made, which is now; not of one without weak references."""
        frame = sys._getframe(1)
        for _ in range(_DEPTH_MAX):
            back = frame.f_back
            if back is None or not frame.f_code.co_filename.startswith(_LIBRARIES):
                break
            frame = back
        try:
            self._places[task] = (frame.f_code, frame.f_lineno)
        except TypeError:
            pass  # a task factory may return anything

    def of(self, task: Any) -> Place | None:
        """The place of a task; None for one that was made before places were noted."""
        try:
            code, line = self._places[task]
        except (KeyError, TypeError):
            return None
        return code.co_filename, line or 0, code.co_name


def place_in_debug(task: Any) -> Place | None:
    """The place that asyncio's debug mode has noted, if any."""
    stack = getattr(task, "_source_traceback", None)
    for frame in reversed(stack or ()):
        if not frame.filename.startswith(_LIBRARIES):
            return frame.filename, frame.lineno or 0, frame.name
    return None
