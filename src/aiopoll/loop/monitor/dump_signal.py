"""A signal has the loops of the process dumped to stderr.

Facts.  A Python handler runs between two bytecodes of the main thread, which may be waiting in C,
or for the GIL.  Any thread that has the GIL can dump a loop.

Rule.  A thread makes the dump: the main thread, its system calls and its handlers notice nothing.
Where C code keeps the GIL for a second, faulthandler prints the stacks of all threads first
(c/dump_request.h).  A handler that the program has set stays, and one line on stderr says so.  One
that it sets later takes the place of this one, which else stays until the process ends: a signal
that comes between two loops must not end it.

Cost.  Two threads and, for faulthandler, the highest real-time signal that is free.  Without a GIL
there are no stacks from faulthandler: they would change while it reads them.
"""

import errno
import faulthandler
import os
import signal
import sys
import threading
import weakref
from typing import TYPE_CHECKING

from aiopoll.loop.monitor import dump_request
from aiopoll.loop.monitor.dump import dump_of, loops_of
from aiopoll.loop.monitor.stderr import write_descriptor

if TYPE_CHECKING:
    from aiopoll.loop.event_loop import EventLoop

_loops: "weakref.WeakSet[EventLoop]" = weakref.WeakSet()
_refused: set[int] = set()
_beginning = threading.Lock()
_begun = False


def dump_on(loop: "EventLoop", number: int) -> None:
    """Has a signal dump the loop, with the others that asked for it.

    Raises ValueError for a number that is no signal's, or of one that cannot be handled.
    """
    global _begun
    number = signal.Signals(number)
    _loops.add(loop)
    with _beginning:
        if not _begun:
            failed = dump_request.begin(_stacks_signal())
            if failed:
                raise OSError(failed, os.strerror(failed))
            threading.Thread(target=_make_dumps, name="aiopoll-dump", daemon=True).start()
            _begun = True
        failed = errno.EBUSY if _is_handled(number) else dump_request.ask_on(number)
    if failed == errno.EBUSY:
        if number not in _refused:
            _refused.add(number)
            reason = "the program has a handler of its own, which stays"
            write_descriptor(f"aiopoll: no dump on {number.name}: {reason}\n")
    elif failed:
        raise ValueError(f"{number.name} cannot be handled: {os.strerror(failed)}")


def _is_handled(number: int) -> bool:
    return signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN)


def _stacks_signal() -> int:
    """A signal for which faulthandler prints the stacks of all threads; 0 if none is to be had."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return 0
    for number in range(signal.SIGRTMAX - 1, signal.SIGRTMIN, -1):
        if signal.getsignal(number) is signal.SIG_DFL:
            try:
                faulthandler.register(number, file=2, all_threads=True)
            except (OSError, RuntimeError, ValueError):
                return 0
            return number
    return 0


def _make_dumps() -> None:
    """Runs in a thread of its own."""
    while True:
        dump_request.wait()
        try:
            _dump()
        except Exception as error:  # the next signal finds this thread
            write_descriptor(f"aiopoll: no dump: {type(error).__name__}\n")
        finally:
            dump_request.done()


def _dump() -> None:
    loops = [loop for loop in loops_of(_loops) if not loop.is_closed()]
    if not loops:
        write_descriptor("aiopoll: no event loop is open\n")
    for loop in loops:
        try:
            text = str(dump_of(loop))
        except Exception as error:  # the program goes on, whatever it has done to its loop
            text = f"aiopoll: {loop!r} cannot be dumped: {error!r}"
        write_descriptor(text + "\n")


def _after_fork_in_child() -> None:
    """The threads are the parent's: the next loop that asks makes others."""
    global _begun, _beginning, _loops
    _begun = False
    _beginning = threading.Lock()
    _loops = weakref.WeakSet()  # a thread of the parent may be going through the other


os.register_at_fork(after_in_child=_after_fork_in_child)
