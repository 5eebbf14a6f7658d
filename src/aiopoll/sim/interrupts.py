"""Control-C in the middle of a run: it ends the run, and the process is as it was before.

Facts: Python raises KeyboardInterrupt in the main thread, between any two instructions: also while
names are put back, and while that thread waits and another one runs the program.

Rule: during a run a handler of the simulator's takes SIGINT, if Python's own would. It ends the
run; it raises only where the main thread runs the program, which may be in an endless loop. Another
thread that does not give way within a second gets TaskExit. KeyboardInterrupt leaves `held`.

Left out: handlers that are not Python's own. They are called as they are, and should only note.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..kernel.sched import TaskExit
from . import inside

if TYPE_CHECKING:
    from .sched import WorldScheduler

scheduler_file: str = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sched.py")


@contextlib.contextmanager
def held() -> Iterator[Callable[[WorldScheduler], None]]:
    """Hold KeyboardInterrupt back until the end of the block; yields what takes the scheduler."""
    schedulers: list[WorldScheduler] = []
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        try:
            yield schedulers.append
        finally:
            schedulers.clear()
        return
    came = False

    def interrupted(signo: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        for scheduler in schedulers:
            interrupt(scheduler, frame)

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield schedulers.append
    finally:
        schedulers.clear()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt


def interrupt(scheduler: WorldScheduler, frame: FrameType | None) -> None:
    """End the run of `scheduler`, whose caller has been interrupted in `frame`."""
    scheduler.fail(KeyboardInterrupt())
    own = frame is None or frame.f_code.co_filename == scheduler_file
    if scheduler.steps_on_caller and not own:
        raise KeyboardInterrupt


def raise_in(ident: int) -> None:
    """Raise TaskExit in the thread `ident` of the process, at its next loop or call."""
    with inside.outside():
        function: Any = ctypes.pythonapi.PyThreadState_SetAsyncExc
        function(ctypes.c_ulong(ident), ctypes.py_object(TaskExit))
