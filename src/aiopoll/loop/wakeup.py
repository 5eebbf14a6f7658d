"""Signals: a signal that arrives while the loop is about to sleep must wake it.

Facts.  CPython's C handler only sets a flag, which the interpreter looks at between bytecodes.
A signal that arrives after the last look and before the system call that sleeps interrupts
nothing.  What does reach a sleeper is the byte that the handler writes to the wake-up descriptor
(signal.set_wakeup_fd), which there is one of for the process, and only the main thread may set.

Rule.  While a loop runs in the main thread and nobody else has set it, the descriptor is the
loop's own pipe, which is on the ring.

Cost.  Two calls of set_wakeup_fd for each run_forever.
"""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def set_wakeup_pipe(pipe: socket.socket | None) -> int:
    """Lets signals write to `pipe`, None for nowhere; answers the earlier descriptor, or -1.

    Raises ValueError outside the main thread of the main interpreter.
    """
    # A full pipe wakes as well as one more byte would.
    return signal.set_wakeup_fd(-1 if pipe is None else pipe.fileno(), warn_on_full_buffer=False)


def release_wakeup_pipe(pipe: socket.socket | None) -> None:
    """Undoes set_wakeup_pipe; a descriptor that somebody else has set meanwhile stays."""
    if pipe is None:
        return
    try:
        current = set_wakeup_pipe(None)
    except ValueError:
        return  # not the main thread: it never was set
    if current not in (-1, pipe.fileno()):
        signal.set_wakeup_fd(current)


@contextmanager
def wakeup_by_signals(
    pipe: socket.socket | None, has_handlers: Callable[[], object]
) -> Iterator[None]:
    """set_wakeup_pipe for a while, where it is possible and nobody else has set one.

    has_handlers: whether the loop has signal handlers, which need the pipe beyond.
    """
    try:
        previous = set_wakeup_pipe(pipe)
    except ValueError:
        yield  # not the main thread: signals are none of its business
        return
    if pipe is None or previous not in (-1, pipe.fileno()):
        signal.set_wakeup_fd(previous)
        yield
        return
    try:
        yield
    finally:
        if not has_handlers():
            release_wakeup_pipe(pipe)
