"""kernel/signal.c: signals of processes, their masks and their delivery.

Facts: a blocked signal stays pending; an ignored one is dropped unless blocked; a pending signal
ends an interruptible sleep; handlers run when the system call returns. A call that swaps the
mask (ppoll, epoll_pwait, io_pgetevents) keeps the temporary one until the handlers have run.

Rule: SIGKILL and SIGSTOP cannot be blocked. A signal is delivered to the task it was sent to.
Left out: SA_RESTART, stop and continue, sigaltstack, siginfo beyond the number, realtime queues:
a signal that is already pending is not queued again.
"""

from __future__ import annotations

import contextlib
import errno
import signal
from collections.abc import Callable, Iterable, Iterator

from .sched import TASK_INTERRUPTIBLE, Scheduler, Task
from .wait import WaitQueueHead, signal_pending

Handler = Callable[[int], object]
UNBLOCKABLE = frozenset({int(signal.SIGKILL), int(signal.SIGSTOP)})
_IGNORED_BY_DEFAULT = frozenset(
    int(number) for number in (signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH)
)


class Killed(BaseException):
    """The default action of a signal without a handler: the program ends here."""

    def __init__(self, signo: int) -> None:
        super().__init__(f"killed by {signal.Signals(signo).name}")
        self.signo = signo


class Signals:
    """kernel/signal.c's functions, and the queue that signalfd waits on."""

    def __init__(self, sched: Scheduler) -> None:
        self.sched = sched
        self.signalfd_wqh: WaitQueueHead = WaitQueueHead(sched, "signalfd_wqh")

    @property
    def handlers(self) -> dict[int, Handler | None]:
        """Return the handlers of the current process, by number; None ignores the signal."""
        return self.sched.current.process.handlers

    @staticmethod
    def _ignored(signo: int, task: Task) -> bool:
        handlers = task.process.handlers
        if signo in handlers:
            return handlers[signo] is None
        return signo in _IGNORED_BY_DEFAULT

    def send(self, signo: int, task: Task) -> None:
        """send_signal: make `signo` pending on `task`, and wake it unless it blocks `signo`."""
        blocked = signo in task.blocked
        if self._ignored(signo, task) and not blocked:
            return
        if signo not in task.pending:
            task.pending.append(signo)
        if self.signalfd_wqh.active:
            self.signalfd_wqh.wake_up()
        if not blocked and task.state == TASK_INTERRUPTIBLE:
            self.sched.wake_up_process(task)

    def set_mask(self, mask: Iterable[int]) -> frozenset[int]:
        """Block exactly `mask` in the current task; returns the previous mask."""
        task = self.sched.current
        before = task.blocked
        task.blocked = frozenset(mask) - UNBLOCKABLE
        return before

    @contextlib.contextmanager
    def user_sigmask(
        self, mask: Iterable[int] | None, *, unless_pending: bool = False
    ) -> Iterator[None]:
        """set_user_sigmask and restore_saved_sigmask_unless: `mask` for a system call's length.

        After EINTR (and with `unless_pending` whenever a signal waits) the mask is put back only
        when the handlers have run, see `deliver`. None leaves the mask alone.
        """
        task = self.sched.current
        if mask is not None:
            task.saved_sigmask = self.set_mask(mask)
        interrupted = False
        try:
            yield
            interrupted = unless_pending and signal_pending(self.sched)
        except OSError as exc:
            interrupted = exc.errno == errno.EINTR
            raise
        finally:
            if task.saved_sigmask is not None and not interrupted:
                task.blocked, task.saved_sigmask = task.saved_sigmask, None

    def dequeue(self, task: Task, mask: frozenset[int]) -> int | None:
        """Take the lowest pending signal in `mask`."""
        numbers = sorted(signo for signo in task.pending if signo in mask)
        if not numbers:
            return None
        task.pending.remove(numbers[0])
        return numbers[0]

    def deliver(self) -> None:
        """Run the handlers of pending, unblocked signals, then restore a swapped mask."""
        task = self.sched.current
        try:
            while True:
                deliverable = frozenset(task.pending) - task.blocked
                signo = self.dequeue(task, deliverable)
                if signo is None:
                    return
                if signo in self.handlers:
                    handler = self.handlers[signo]
                    if handler is not None:
                        handler(signo)
                elif signo not in _IGNORED_BY_DEFAULT:
                    raise Killed(signo)
        finally:
            if task.saved_sigmask is not None:
                task.blocked, task.saved_sigmask = task.saved_sigmask, None
