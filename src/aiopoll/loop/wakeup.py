"""Signals: a signal that arrives while the loop is about to sleep must wake it.

Facts.  CPython's C handler only sets a flag, which the interpreter looks at between bytecodes.
A signal that arrives after the last look and before the system call that sleeps interrupts
nothing.  What does reach a sleeper is the byte that the handler writes to the wake-up descriptor
(signal.set_wakeup_fd), which there is one of for the process, and only the main thread may set.

Rule.  While a loop runs in the main thread and no other code has set it, the descriptor is the
loop's own socket pair, which its reactor watches.  A forked child unsets it
(loop/fork_signals.pyx).

Why not a signalfd.  It would take the signals from Python's own handlers, and finds only those
that its reader's thread has pending: AIO poll never completes on it.

Cost.  Two calls of set_wakeup_fd for each run_forever.
"""

import signal
import socket


def set_wakeup_pipe(pipe: socket.socket | None) -> int:
    """Lets signals write to `pipe`, None for nowhere; returns the earlier descriptor, or -1.

    Raises ValueError outside the main thread of the main interpreter.
    """
    # A full pipe wakes as well as one more byte would.
    return signal.set_wakeup_fd(-1 if pipe is None else pipe.fileno(), warn_on_full_buffer=False)


def release_wakeup_pipe(pipe: socket.socket | None) -> None:
    """Undoes set_wakeup_pipe; a descriptor that other code has set meanwhile stays."""
    if pipe is None:
        return
    try:
        current = set_wakeup_pipe(None)
    except ValueError:
        return  # not the main thread: it never was set
    if current not in (-1, pipe.fileno()):
        signal.set_wakeup_fd(current)


def claim_wakeup(pipe: socket.socket | None) -> bool:
    """set_wakeup_pipe where it is possible and no other code has set one; whether it is set now."""
    try:
        previous = set_wakeup_pipe(pipe)
    except ValueError:
        return False  # not the main thread: signals are none of its business
    if pipe is None or previous not in (-1, pipe.fileno()):
        signal.set_wakeup_fd(previous)
        return False
    return True
