"""arch/x86/entry: the way into the kernel and out of it.

Rule: on the way out, pending softirqs and work items run (or wait, if the seed defers them), and
then signals are delivered; nothing is delivered in the middle of a system call.
Each module's system calls are a class here, and the kernel inherits them all.
Left out: restart of interrupted calls, seccomp, compat entries.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from errno import EAGAIN
from typing import Concatenate, ParamSpec, TypeVar

from .file import File, FileTable
from .sched import Scheduler
from .signal import Signals
from .trace import TraceFunction

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="SyscallTable")


class SyscallTable:
    """The base of every group of system calls."""

    sched: Scheduler
    signals: Signals
    trace: TraceFunction | None

    @property
    def files(self) -> FileTable:
        """Return the descriptors of the current process."""
        return self.sched.current.process.files

    def fget(self, fd: int) -> File:
        """fdget: return the file of `fd`. EBADF if it is not open."""
        return self.files.get(fd)


def syscall(function: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Wrap a system call in its entry and exit work."""
    name = function.__name__

    @functools.wraps(function)
    def entry(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        sched = self.sched
        if sched.preemptive:
            sched.preempt()
        try:
            result = function(self, *args, **kwargs)
        except OSError as exc:
            if exc.errno == EAGAIN:
                sched.found_nothing()
            if self.trace is not None:
                self.trace(
                    sched.clock.now_ns,
                    sched.current.name,
                    name,
                    (*args, kwargs) if kwargs else args,
                    exc,
                )
            raise
        finally:
            if sched.softirqs or sched.works:
                sched.syscall_exit()
            if sched.current.pending or sched.current.saved_sigmask is not None:
                self.signals.deliver()
        if self.trace is not None:
            self.trace(
                sched.clock.now_ns,
                sched.current.name,
                name,
                (*args, kwargs) if kwargs else args,
                result,
            )
        return result

    return entry
