"""Which windows a loop opens for those that look into it: by its arguments, or the environment.

`AIOPOLL_DUMP_SIGNAL` names the signal that asks for a dump, and `AIOPOLL_MONITOR=1` opens the
socket that `aiopoll top` asks.  What the program says of a loop itself overrules both.
"""

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiopoll.loop.event_loop import EventLoop

SIGNAL_VARIABLE = "AIOPOLL_DUMP_SIGNAL"
MONITOR_VARIABLE = "AIOPOLL_MONITOR"


def signal_of(name: str) -> signal.Signals:
    """The signal of a name ("QUIT", "SIGQUIT") or number.

    Raises ValueError for what is none, and for one that cannot be handled.
    """
    text = name.strip().upper()
    try:
        if text.isdecimal():
            found = signal.Signals(int(text))
        else:
            found = signal.Signals[text if text.startswith("SIG") else "SIG" + text]
    except (KeyError, ValueError):
        raise ValueError(f"no signal: {name!r}; write QUIT, SIGUSR1 or a number") from None
    if found in (signal.SIGKILL, signal.SIGSTOP):
        raise ValueError(f"{found.name} cannot be handled; write QUIT, SIGUSR1 or a number")
    return found


def open_windows(loop: "EventLoop", dump_signal: int | None, monitor: bool | None) -> None:
    """Opens what the arguments of a loop or the environment ask for; None: the environment.

    Raises ValueError for what names no signal, or a signal that cannot be handled.
    """
    number = dump_signal
    if number is None and (name := os.environ.get(SIGNAL_VARIABLE)):
        try:
            number = signal_of(name)
        except ValueError as error:
            raise ValueError(f"{SIGNAL_VARIABLE}: {error}") from None
    if number is not None:
        from aiopoll.loop.monitor.dump_signal import dump_on

        dump_on(loop, number)
    if monitor is None:
        monitor = os.environ.get(MONITOR_VARIABLE, "") not in ("", "0")
    if monitor:
        from aiopoll.loop.monitor.service import serve

        serve(loop)
