"""What waits: the tasks of a loop that are not done, where each stands and for what.

Facts: Task.get_stack() shows one frame of a task that is suspended, the outermost. The others are
in the chain of what each coroutine awaits, down to a future.

Rule: that chain is followed, and only lines of the program are shown; of a coroutine that has none,
the innermost line.
"""

from __future__ import annotations

import asyncio
import linecache
import os
from collections.abc import Iterable
from types import FrameType
from typing import Any

from .failure import is_program
from .inside import outside

_DEPTH_MAX = 100
_FRAMES_MAX = 6


def frames_of(coroutine: Any) -> list[FrameType]:
    """Return the frames of a suspended coroutine and of what it awaits, outermost first."""
    frames: list[FrameType] = []
    for _ in range(_DEPTH_MAX):
        for frame, below in (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom")):
            if hasattr(coroutine, frame):
                if getattr(coroutine, frame) is not None:
                    frames.append(getattr(coroutine, frame))
                coroutine = getattr(coroutine, below)
                break
        else:
            break
    return frames


def line_of(filename: str, number: int, name: str) -> str:
    """Return "file:line in function: source", the file relative to the working directory."""
    source = linecache.getline(filename, number).strip()
    return f"{relative(filename)}:{number} in {name}" + (f": {source}" if source else "")


def relative(filename: str) -> str:
    with outside():
        # A host has a working directory of its own.
        path = os.path.relpath(filename) if os.path.isabs(filename) else filename
    return filename if path.startswith(os.pardir) else path


def name_of(task: asyncio.Task[Any]) -> str:
    """Return the name of a task, with that of its coroutine if it was given none."""
    name = task.get_name()
    if not name.startswith("Task-"):
        return name
    coroutine = getattr(task.get_coro(), "__qualname__", "").rpartition("<locals>.")[2]
    return f"{coroutine} ({name})"


def describe_tasks(host: str, tasks: Iterable[asyncio.Task[Any]]) -> list[str]:
    """Return the lines of a host's tasks: a heading each, and under it the stack, indented."""
    lines: list[str] = []
    for task in tasks:
        if task.done():
            continue
        coroutine = task.get_coro()
        frames = frames_of(coroutine)
        lines.append(f"{host}: {name_of(task)} {_awaits(task)}")
        shown = [frame for frame in frames if is_program(frame.f_code.co_filename)] or frames[-1:]
        skipped = len(shown) - _FRAMES_MAX
        if skipped > 0:
            lines.append(f"    … {skipped} more")
        lines += [
            f"    {line_of(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)}"
            for frame in shown[-_FRAMES_MAX:]
        ]
    return lines


def _awaits(task: asyncio.Task[Any]) -> str:
    """Return what the task does: asyncio keeps the future that wakes it."""
    awaited = getattr(task, "_fut_waiter", None)
    if awaited is None:
        return "is ready to run"
    if isinstance(awaited, asyncio.Task):
        return f"waits for the task {awaited.get_name()}"
    return "is ready to go on" if awaited.done() else "waits"
