"""signal and os.kill: signals of the host's processes.

Facts: Python runs a handler in the main thread, between two instructions, and writes the number
to the wakeup descriptor. SIGINT raises KeyboardInterrupt unless a program says otherwise; SIGPIPE
and SIGXFSZ are ignored.

Rule: a handler runs where the kernel delivers: at the end of a system call of the main thread, or
before the next step of its loop. Timers (alarm, setitimer) run on the virtual clock.
Left out: siginfo, SIGSTOP, stacks and other effects of default actions: the host's program ends.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import signal
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...kernel.hrtimer import HrTimer
from ...kernel.sched import TASK_INTERRUPTIBLE
from . import threads
from .dispatch import Replacement, functions
from .escape import refuse

if TYPE_CHECKING:
    from ...kernel.fork import Process
    from ..host import Host

NSEC_PER_SEC = 1_000_000_000
IGNORED_AT_START = (signal.SIGPIPE, signal.SIGXFSZ)
TIMER_SIGNALS = {
    signal.ITIMER_REAL: signal.SIGALRM,
    signal.ITIMER_VIRTUAL: signal.SIGVTALRM,
    signal.ITIMER_PROF: signal.SIGPROF,
}


class Actions:
    """What a process has set by the signal module."""

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}
        self.wakeup_fd = -1
        self.timers: dict[int, HrTimer] = {}
        self.intervals_ns: dict[int, int] = {}


_actions: weakref.WeakKeyDictionary[Process, Actions] = weakref.WeakKeyDictionary()


def actions(host: Host) -> Actions:
    """Return the actions of the current process; a start of its program begins anew."""
    process = host.kernel.sched.current.process
    found = _actions.get(process)
    if found is None:
        found = _actions[process] = Actions()
    return found


def _number(signalnum: Any) -> int:
    number = int(signalnum)
    if not 1 <= number < signal.NSIG:
        raise ValueError("signal number out of range")
    return number


def _enum(value: int) -> Any:
    try:
        return signal.Signals(value)
    except ValueError:
        return value


def getsignal(host: Host, signalnum: Any, /) -> Any:
    """Return the handler, SIG_IGN, SIG_DFL, or None for one that the signal module did not set."""
    number = _number(signalnum)
    known = actions(host).handlers
    if number in known:
        return known[number]
    handlers = host.kernel.signals.handlers
    if number in handlers:
        return signal.Handlers.SIG_IGN if handlers[number] is None else None
    if number == signal.SIGINT:
        return signal.default_int_handler
    return signal.Handlers.SIG_DFL


def set_signal(host: Host, signalnum: Any, handler: Any, /) -> Any:
    """signal.signal: returns the previous handler. ValueError, TypeError, OSError."""
    if threads.current_thread(host) is not threads.main_thread(host):
        raise ValueError("signal only works in main thread of the main interpreter")
    number = _number(signalnum)
    if number in (signal.SIGKILL, signal.SIGSTOP):
        raise OSError(22, "Invalid argument")
    if not callable(handler) and handler not in (signal.SIG_IGN, signal.SIG_DFL):
        raise TypeError(
            "signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object"
        )
    before = getsignal(host, number)
    known = actions(host)
    if handler == signal.SIG_IGN:
        host.kernel.sigaction(number, None)
        handler = signal.Handlers.SIG_IGN
    elif handler == signal.SIG_DFL:
        host.kernel.signals.handlers.pop(number, None)
        handler = signal.Handlers.SIG_DFL
    else:
        host.kernel.sigaction(number, lambda signo: _run(host, known, handler, signo))
    known.handlers[number] = handler
    return before


def _run(host: Host, known: Actions, handler: Callable[[int, Any], object], signo: int) -> None:
    if known.wakeup_fd >= 0:
        try:
            host.kernel.write(known.wakeup_fd, bytes((signo,)))
        except OSError:
            pass
    handler(signo, None)


def set_wakeup_fd(host: Host, fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
    """signal.set_wakeup_fd: returns the previous one. ValueError for a blocking descriptor."""
    if threads.current_thread(host) is not threads.main_thread(host):
        raise ValueError("set_wakeup_fd only works in main thread of the main interpreter")
    known = actions(host)
    if fd != -1 and not host.kernel.fget(fd).nonblocking:
        raise ValueError(f"the fd {fd} must be in non-blocking mode")
    before, known.wakeup_fd = known.wakeup_fd, fd
    return before


def _int_handler(host: Host) -> None:
    """Let SIGINT raise KeyboardInterrupt where the program has no handler for it."""
    handlers = host.kernel.signals.handlers
    if int(signal.SIGINT) not in handlers:

        def interrupt(signo: int) -> None:
            raise KeyboardInterrupt

        handlers[int(signal.SIGINT)] = interrupt
        actions(host).handlers[int(signal.SIGINT)] = signal.default_int_handler


def kill(host: Host, pid: int, signalnum: Any, /) -> None:
    """os.kill within the host. ProcessLookupError for a pid that it has not."""
    number = int(signalnum)
    if number == signal.SIGINT and pid == host.kernel.getpid():
        _int_handler(host)
    host.kernel.kill(pid, number)


def killpg(host: Host, pgid: int, signalnum: Any, /) -> None:
    kill(host, pgid, signalnum)


def raise_signal(host: Host, signalnum: Any, /) -> None:
    kill(host, host.kernel.getpid(), _number(signalnum))


def pthread_kill(host: Host, thread_id: int, signalnum: Any, /) -> None:
    """Send a signal to the main thread of the host: there a handler would run in any case."""
    if threads.threads.of_ident(host, thread_id) is None:
        raise ProcessLookupError(3, "No such process")
    raise_signal(host, signalnum)


# Masks and waits


def pthread_sigmask(host: Host, how: int, mask: Iterable[Any], /) -> set[Any]:
    task = host.kernel.sched.current
    numbers = {_number(one) for one in mask}
    blocked = set(task.blocked)
    if how == signal.SIG_BLOCK:
        wanted = blocked | numbers
    elif how == signal.SIG_UNBLOCK:
        wanted = blocked - numbers
    elif how == signal.SIG_SETMASK:
        wanted = numbers
    else:
        raise OSError(22, "Invalid argument")
    before = host.kernel.sigprocmask(wanted)
    return {_enum(number) for number in before}


def sigpending(host: Host) -> set[Any]:
    return {_enum(number) for number in host.kernel.sched.current.pending}


def _sigwait(host: Host, sigset: Iterable[Any]) -> int:
    """Sleep until a signal in `sigset` is pending, and take it."""
    kernel = host.kernel
    task = kernel.sched.current
    wanted = frozenset(_number(one) for one in sigset)
    before, task.blocked = task.blocked, task.blocked - wanted
    handlers = kernel.signals.handlers
    # A signal that is waited for is queued, also where its default is to be ignored.
    added = [number for number in wanted if number not in handlers]
    for number in added:
        handlers[number] = lambda signo: None
    try:
        while True:
            found = kernel.signals.dequeue(task, wanted)
            if found is not None:
                return found
            task.state = TASK_INTERRUPTIBLE
            kernel.sched.schedule()
    finally:
        task.blocked = before
        for number in added:
            handlers.pop(number, None)


def sigwait(host: Host, sigset: Iterable[Any], /) -> Any:
    number = _sigwait(host, sigset)
    return _enum(number)


def pause(host: Host) -> None:
    """signal.pause: sleep until a handler has run."""
    kernel = host.kernel
    task = kernel.sched.current
    while not frozenset(task.pending) - task.blocked:
        task.state = TASK_INTERRUPTIBLE
        kernel.sched.schedule()
    kernel.signals.deliver()


# Timers


def setitimer(host: Host, which: int, seconds: float, interval: float = 0.0, /) -> Any:
    """signal.setitimer on the virtual clock; returns the old (delay, interval). OSError."""
    if which not in TIMER_SIGNALS or seconds < 0 or interval < 0:
        raise signal.ItimerError(22, "Invalid argument")
    known = actions(host)
    before = getitimer(host, which)
    clock = host.kernel.sched.clock
    process = host.kernel.sched.current.process
    signals = host.kernel.signals

    def fire() -> None:
        signals.send(int(TIMER_SIGNALS[signal.ITIMER_REAL if which == 0 else which]), process.main)
        interval_ns = known.intervals_ns.get(which, 0)
        if interval_ns:
            clock.start(known.timers[which], clock.now_ns + interval_ns)

    timer = known.timers.pop(which, None)
    if timer is not None:
        clock.cancel(timer)
    known.intervals_ns[which] = round(interval * NSEC_PER_SEC)
    if seconds:
        timer = known.timers[which] = HrTimer(fire)
        clock.start(timer, clock.now_ns + max(round(seconds * NSEC_PER_SEC), 1))
    return before


def getitimer(host: Host, which: int, /) -> tuple[float, float]:
    known = actions(host)
    timer = known.timers.get(which)
    expires_ns = None if timer is None else timer.expires_ns
    left_ns = 0 if expires_ns is None else expires_ns - host.kernel.sched.clock.now_ns
    return left_ns / NSEC_PER_SEC, known.intervals_ns.get(which, 0) / NSEC_PER_SEC


def alarm(host: Host, seconds: int, /) -> int:
    before = setitimer(host, signal.ITIMER_REAL, seconds)
    return -int(-before[0] // 1)


def siginterrupt(host: Host, signalnum: Any, flag: bool, /) -> None:
    _number(signalnum)


def end() -> None:
    _actions.clear()


def replacements() -> Iterable[Replacement]:
    table: dict[str, Callable[..., Any]] = {
        "signal": set_signal,
        "getsignal": getsignal,
        "set_wakeup_fd": set_wakeup_fd,
        "raise_signal": raise_signal,
        "pthread_kill": pthread_kill,
        "pthread_sigmask": pthread_sigmask,
        "sigpending": sigpending,
        "sigwait": sigwait,
        "pause": pause,
        "setitimer": setitimer,
        "getitimer": getitimer,
        "alarm": alarm,
        "siginterrupt": siginterrupt,
        "sigwaitinfo": refuse("signal.sigwaitinfo", "use signal.sigwait"),
        "sigtimedwait": refuse("signal.sigtimedwait", "use signal.sigwait, or a timer"),
        "pidfd_send_signal": refuse("signal.pidfd_send_signal", "use os.kill with a pid"),
    }
    yield from functions(signal, table)
    yield from functions(_signal, table)
    yield from functions(os, {"kill": kill, "killpg": killpg})
