"""fs/select.c and include/linux/poll.h: the poll API, and poll, ppoll and select on it.

Facts: `vfs_poll` calls `->poll` if the file has one. Otherwise, if it has both new methods, it
registers on the head once and calls `poll_mask`; otherwise it returns DEFAULT_POLLMASK. A table
without `_qproc` (the second round of do_poll, or a first one that found an event) registers
nothing.

Rules that the series arrived at, and where they are:
V2  a NULL `->poll` is handled in vfs_poll: callers need not check.
V3  `vfs_get_poll_head` is the only caller of `get_poll_head`; None means "cannot be polled".
V4  no `poll_mask` call before the sleep: registering is enough, since the mask is read after it;
    `get_poll_head` may return a mask at once.

poll(2) registers on each file first and checks afterwards, so an event between the two wakes
the task. Its sleepers are woken through `pollwake`, which ignores keys outside of its mask.

Left out: RLIMIT_NOFILE for nfds, select's silence about descriptors beyond the table, busy
polling, timer slack, restart of an interrupted poll.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence

from .file import File, PollHead
from .sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Scheduler
from .syscall import SyscallTable, syscall
from .uapi import (
    DEFAULT_POLLMASK,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLNVAL,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDBAND,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
    error,
)
from .wait import (
    WaitQueueEntry,
    WaitQueueHead,
    default_wake_function,
    schedule_hrtimeout,
    signal_pending,
)

QueueProc = Callable[[File, WaitQueueHead, "PollTable"], None]

POLLIN_SET = EPOLLRDNORM | EPOLLRDBAND | EPOLLIN | EPOLLHUP | EPOLLERR
POLLOUT_SET = EPOLLWRBAND | EPOLLWRNORM | EPOLLOUT | EPOLLERR
POLLEX_SET = EPOLLPRI


class PollTable:
    """poll_table: `qproc` registers the caller on a queue, `key` is the events that it awaits."""

    __slots__ = ("key", "qproc")

    def __init__(self, qproc: QueueProc | None, key: int = 0xFFFFFFFF) -> None:
        self.qproc: QueueProc | None = qproc
        self.key: int = key


def poll_wait(file: File, head: WaitQueueHead, pt: PollTable | None) -> None:
    """Called by a `->poll` method for each queue that can wake its waiter."""
    if pt is not None and pt.qproc is not None:
        pt.qproc(file, head, pt)


def file_has_poll_mask(file: File) -> bool:
    return file.f_op.get_poll_head is not None and file.f_op.poll_mask is not None


def file_can_poll(file: File) -> bool:
    return file.f_op.poll is not None or file_has_poll_mask(file)


def vfs_get_poll_head(file: File, events: int) -> PollHead:
    """Return the queue to wait on, a mask, an error, or None where the file cannot be polled."""
    if file.f_op.get_poll_head is None:
        return None
    return file.f_op.get_poll_head(file, events)


def vfs_poll_mask(file: File, events: int) -> int:
    """Check without blocking; the caller has made sure that the method exists."""
    assert file.f_op.poll_mask is not None
    return file.f_op.poll_mask(file, events)


def vfs_poll(file: File, pt: PollTable | None) -> int:
    """Return the events that `file` is ready for; registers on it if `pt` asks for that."""
    if file.f_op.poll is not None:
        return file.f_op.poll(file, pt)
    if not file_has_poll_mask(file):
        return DEFAULT_POLLMASK
    events = pt.key if pt is not None else 0xFFFFFFFF
    if pt is not None and pt.qproc is not None:
        head = vfs_get_poll_head(file, events)
        if head is None:
            return DEFAULT_POLLMASK
        if isinstance(head, int):
            return head
        if isinstance(head, OSError):
            return EPOLLERR
        pt.qproc(file, head, pt)
    return vfs_poll_mask(file, events)


class PollWqueues:
    """struct poll_wqueues: the queues that one poll or select call sleeps on."""

    def __init__(self, sched: Scheduler) -> None:
        self.sched = sched
        self.pt: PollTable = PollTable(self._pollwait)
        self.entries: list[tuple[WaitQueueHead, WaitQueueEntry, File]] = []
        self.triggered: bool = False

    def _pollwait(self, file: File, head: WaitQueueHead, pt: PollTable) -> None:
        wanted = pt.key

        def pollwake(entry: WaitQueueEntry, key: int) -> int:
            if key and not key & wanted:
                return 0
            self.triggered = True
            return default_wake_function(entry, key)

        entry = WaitQueueEntry(pollwake, self.sched.current)
        self.entries.append((head, entry, file.get()))
        head.add_wait_queue(entry)

    def schedule_timeout(self, expires_ns: int | None) -> bool:
        """Sleep until triggered or out of time; returns False when the time ran out."""
        current = self.sched.current
        current.state = TASK_INTERRUPTIBLE
        if self.triggered:
            current.state = TASK_RUNNING
            in_time = True
        else:
            in_time = schedule_hrtimeout(self.sched, expires_ns)
        self.triggered = False
        return in_time

    def freewait(self) -> None:
        for head, entry, file in self.entries:
            head.remove_wait_queue(entry)
            file.put()


def do_poll(sched: Scheduler, look: Callable[[PollTable], int], timeout_ns: int | None) -> int:
    """The loop of poll and select: `look` polls every file once and counts the ready ones.

    Raises OSError(EINTR) if a signal ends the wait.
    """
    expires_ns = None if timeout_ns is None else sched.clock.now_ns + timeout_ns
    table = PollWqueues(sched)
    in_time = timeout_ns is None or timeout_ns > 0
    if not in_time:
        table.pt.qproc = None
    try:
        while True:
            count = look(table.pt)
            # The first round has registered on everything.
            table.pt.qproc = None
            if count:
                return count
            if signal_pending(sched):
                raise error(errno.EINTR)
            if not in_time:
                if not timeout_ns:
                    sched.found_nothing()
                return 0
            in_time = table.schedule_timeout(expires_ns)
    finally:
        table.freewait()


class SelectSyscalls(SyscallTable):
    """poll, ppoll, select, pselect6. Timeouts are in nanoseconds; None waits for ever."""

    def _poll(self, fds: Sequence[tuple[int, int]], timeout_ns: int | None) -> list[int]:
        revents = [0] * len(fds)

        def look(pt: PollTable) -> int:
            count = 0
            for index, (fd, events) in enumerate(fds):
                mask = 0
                if fd >= 0:
                    file = self.files.files.get(fd)
                    mask = EPOLLNVAL
                    if file is not None:
                        wanted = (events & 0xFFFF) | EPOLLERR | EPOLLHUP
                        pt.key = wanted
                        mask = vfs_poll(file, pt) & wanted
                revents[index] = mask
                if mask:
                    count += 1
                    pt.qproc = None
            return count

        do_poll(self.sched, look, timeout_ns)
        return revents

    @syscall
    def poll(self, fds: Sequence[tuple[int, int]], timeout_ns: int | None = None) -> list[int]:
        """Return the revents of each (fd, events): 0 for a negative fd, POLLNVAL for a closed one.

        Raises OSError(EINTR) when a signal arrives first. See poll(2).
        """
        return self._poll(fds, timeout_ns)

    @syscall
    def ppoll(
        self,
        fds: Sequence[tuple[int, int]],
        timeout_ns: int | None = None,
        sigmask: Iterable[int] | None = None,
    ) -> list[int]:
        """poll with the signal mask `sigmask` in force while it waits. See ppoll(2)."""
        with self.signals.user_sigmask(sigmask):
            return self._poll(fds, timeout_ns)

    @syscall
    def select(
        self,
        readers: Iterable[int],
        writers: Iterable[int],
        exceptional: Iterable[int],
        timeout_ns: int | None = None,
    ) -> tuple[list[int], list[int], list[int]]:
        """Return the descriptors ready to read, to write and with priority data. See select(2).

        Raises OSError(EBADF) for a descriptor that is not open, OSError(EINTR) on a signal.
        """
        wanted: dict[int, list[int]] = {}
        for which, fds in enumerate((readers, writers, exceptional)):
            for fd in fds:
                wanted.setdefault(fd, []).append(which)
        for fd in wanted:
            self.fget(fd)
        sets = (POLLIN_SET, POLLOUT_SET, POLLEX_SET)
        ready: tuple[list[int], list[int], list[int]] = ([], [], [])

        def look(pt: PollTable) -> int:
            for fd in sorted(wanted):
                file = self.files.files.get(fd)
                if file is None:
                    continue
                pt.key = EPOLLERR | EPOLLHUP
                for which in wanted[fd]:
                    pt.key |= sets[which]
                mask = vfs_poll(file, pt)
                for which in wanted[fd]:
                    if mask & sets[which]:
                        ready[which].append(fd)
                        pt.qproc = None
            return sum(map(len, ready))

        do_poll(self.sched, look, timeout_ns)
        return ready

    @syscall
    def nanosleep(self, duration_ns: int) -> None:
        """Sleep for `duration_ns` of the virtual clock. EINVAL if negative, EINTR on a signal."""
        if duration_ns < 0:
            raise error(errno.EINVAL)
        self._poll([], duration_ns)
