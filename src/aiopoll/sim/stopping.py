"""The end of code that does not want to end: what catches even TaskExit and GeneratorExit.

Facts: a program may catch BaseException around every wait, in a loop. `close` of its coroutine and
TaskExit in its system call then change nothing. A trace function of the interpreter may raise at a
line, also at one of the handler that has just caught something; that ends the handler and its loop.

Rule: after the run, code may refuse to end for a while, since its finally blocks make calls too.
After REFUSALS_MAX it is traced, and each line of the program raises, until the simulator's own
frame is reached. The exception arms the trace anew as it dies: outer handlers end alike.

After RAISES_MAX of them the thread sleeps for ever, unless it is the caller's own.

Left out: a loop that makes no call and catches everything. It would not end without a world either.
"""

from __future__ import annotations

import contextlib
import os
import sys
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, NoReturn, TypeVar

from ..kernel.sched import TaskExit
from .inside import outside, place

F = TypeVar("F", bound=Callable[..., Any])
Around = Callable[[], contextlib.AbstractContextManager[None]]

REFUSALS_MAX = 200
"""Calls that one thread may make after the end of the run; then its lines raise."""
RAISES_MAX = 1000
"""Lines that raise; after them a thread, unless it is the caller's of `run`, sleeps for ever."""
CLOSES_MAX = 20
"""How often a coroutine is closed that awaits again in its finally blocks."""
OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class _Forced(TaskExit):
    """Raised at a line of a program; once it is caught and gone, the next line raises again."""

    def __del__(self) -> None:
        if get_ident() in _forced:
            sys.settrace(_trace)


# The threads whose lines raise, and what traced them before.
_forced: dict[int, Any] = {}
_refusals: dict[int, int] = {}
_raises: dict[int, int] = {}
# The threads that close a coroutine by force, and what waits for them.
_helped: dict[int, Any] = {}
_feet: set[CodeType] = set()


def _trace(frame: FrameType, event: str, arg: Any) -> Any:
    if get_ident() not in _forced:
        return None
    if frame.f_code.co_filename.startswith(OWN):
        return None
    if event in ("call", "line"):
        ident = get_ident()
        _raises[ident] = _raises.get(ident, 0) + 1
        if _raises[ident] > RAISES_MAX and ident != place.caller:
            _stay_behind()
        raise _Forced
    return _trace


def _stay_behind() -> None:
    """Let the calling thread sleep for ever, as nothing ends what it runs."""
    ident = get_ident()
    place.threads.discard(ident)
    waiter = _helped.pop(ident, None)
    if waiter is not None:
        waiter.release()
    gate = allocate_lock()
    gate.acquire()
    gate.acquire()


def _force(frame: FrameType | None) -> None:
    """Let the lines of `frame` and its callers raise, as far as the next foot."""
    _forced.setdefault(get_ident(), sys.gettrace())
    while frame is not None and frame.f_code not in _feet:
        if not frame.f_code.co_filename.startswith(OWN):
            frame.f_trace = _trace
        frame = frame.f_back
    sys.settrace(_trace)


def foot(function: F) -> F:
    """Mark a function of the simulator that calls a program's code, and `calm` afterwards."""
    _feet.add(function.__code__)
    return function


def calm() -> None:
    """Let the lines of the calling thread be as before: the program's code has returned."""
    ident = get_ident()
    _refusals.pop(ident, None)
    _raises.pop(ident, None)
    if ident in _forced:
        sys.settrace(_forced.pop(ident))


def refuse(over: bool = True) -> NoReturn:
    """Raise TaskExit for a call of a machine that is off; `over`: the run has ended as well."""
    if over:
        ident = get_ident()
        refused = _refusals[ident] = _refusals.get(ident, 0) + 1
        if refused > REFUSALS_MAX:
            _force(sys._getframe(1))
    raise TaskExit


@foot
def _close_once(coroutine: Any, around: Around, forced: bool = False) -> bool:
    """Close a coroutine; returns whether it has ended."""
    with around():
        try:
            if forced:
                inner = coroutine
                while getattr(inner, "cr_frame", None) is not None:
                    inner.cr_frame.f_trace = _trace
                    inner = inner.cr_await
                _force(None)
            coroutine.close()
        except BaseException:
            # Whatever the program does now, it is over: also what it raises.
            pass
        finally:
            calm()
    return getattr(coroutine, "cr_frame", None) is None


def close(coroutine: Any, around: Around) -> None:
    """Close a coroutine whose world is over, whatever it does then; `around` makes it current."""
    for _ in range(CLOSES_MAX):
        if _close_once(coroutine, around):
            return

    def force() -> None:
        ident = get_ident()
        place.threads.add(ident)
        _helped[ident] = done
        _close_once(coroutine, around, forced=True)
        place.threads.discard(ident)
        _helped.pop(ident).release()

    # A thread can be left behind, the caller's own cannot.
    done = allocate_lock()
    done.acquire()
    with outside():
        start_new_thread(force, ())
    done.acquire()
