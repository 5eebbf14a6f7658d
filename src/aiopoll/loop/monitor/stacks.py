"""Stacks as the standard library prints them, and the line of the program in them."""

import os
import re
import sysconfig
from collections.abc import Sequence
from traceback import FrameSummary

from aiopoll.loop.monitor.observation import Frames
from aiopoll.loop.monitor.places import OURS

Stack = tuple[FrameSummary, ...]
"""The most recent call is the last."""

_DUMPED = re.compile(r'^  File "(.*)", line (\d+|\?\?\?) in (.*)$', re.MULTILINE)
_STDLIB = os.path.realpath(sysconfig.get_path("stdlib")) + os.sep
_INSTALLED = ("site-packages" + os.sep, "dist-packages" + os.sep)
_RUN_FOREVER = os.path.join("asyncio", "base_events.py")

NOWHERE = FrameSummary("<unknown>", 0, "<unknown>", line="")


def stack_of(frames: Frames) -> Stack:
    """The stack of frames that begin with the innermost."""
    return tuple(
        FrameSummary(code.co_filename, line or 0, code.co_name) for code, line in reversed(frames)
    )


def dumped_stack(text: str) -> Stack:
    """The stack that CPython has dumped; it cuts names, and writes them in ASCII."""
    return tuple(
        FrameSummary(file, 0 if line == "???" else int(line), name)
        for file, line, name in reversed(_DUMPED.findall(text))
    )


def without_loop(stack: Stack) -> Stack:
    """What the loop has called; empty where that is no code of Python."""
    for at in reversed(range(len(stack))):
        if stack[at].name == "run_forever" and stack[at].filename.endswith(_RUN_FOREVER):
            return stack[at + 1 :]
    return stack


def is_programs(filename: str) -> bool:
    """Whether a file is neither the standard library's nor this package's."""
    if filename.startswith(("<frozen ", OURS)):
        return False
    return not os.path.realpath(filename).startswith(_STDLIB) or any(
        part in filename for part in _INSTALLED
    )


def place_of(stack: Sequence[FrameSummary]) -> FrameSummary:
    """The innermost line of the program; of any code where the program has none in the stack."""
    for frame in reversed(stack):
        if is_programs(frame.filename):
            return frame
    return stack[-1] if stack else NOWHERE


def format_place(place: FrameSummary) -> str:
    if place is NOWHERE:
        return "at an unknown line"
    line = f": {place.line}" if place.line else ""
    return f"{place.filename}:{place.lineno} in {place.name}{line}"
